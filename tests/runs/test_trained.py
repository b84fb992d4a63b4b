"""network and merge: loading, starting from other weights, errors name the leaf."""

import json
import logging

import numpy as np
import pytest

from deepfer_jax.data import datasets
from deepfer_jax.errors import UserError
from deepfer_jax.evaluation.evaluate import open_split
from deepfer_jax.export import export_run
from deepfer_jax.pretrained.merge import merge_variables
from deepfer_jax.runs.trained import load_trained
from deepfer_jax.runs.workdir import restore_run
from deepfer_jax.training.train import train_and_evaluate
from tests import small_recipe


def leaves(**values):
    return {name: {"kernel": np.array(x, np.float32)} for name, x in values.items()}


def test_merge_takes_everything_but_what_is_new():
    ours, theirs = leaves(stem=[1.0], head=[1.0, 1.0]), leaves(stem=[2.0], head=[3.0])
    merged = merge_variables(ours, theirs, new=("head",))
    np.testing.assert_array_equal(merged["stem"]["kernel"], [2.0])
    np.testing.assert_array_equal(merged["head"]["kernel"], [1.0, 1.0])


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (leaves(stem=[1.0]), "head/kernel is missing"),
        (
            leaves(stem=[1.0], head=[1.0], neck=[1.0]),
            "neck/kernel is not one of its parameters",
        ),
        (
            leaves(stem=[1.0], head=[[1.0]]),
            r"head/kernel: expected shape \(1,\), found \(1, 1\)",
        ),
        # A prefix is a whole name of a path.
        (leaves(stem=[1.0], head=[1.0], header=[1.0]), "header/kernel is not one"),
    ],
)
def test_merge_names_what_has_no_place(theirs, message):
    new = ("head",) if "header" in theirs else ()
    with pytest.raises(ValueError, match=message):
        merge_variables(leaves(stem=[0.0], head=[0.0]), theirs, new=new)


@pytest.fixture(scope="module")
def trained(small_data_dir, tmp_path_factory):
    """A workdir and the exported model of it."""
    folder = tmp_path_factory.mktemp("trained")
    train_and_evaluate(make_config(small_data_dir), folder / "run")
    export_run(folder / "run", folder / "model")
    return folder


def make_config(data_dir, **model):
    config = small_recipe.get_config()
    config.dataset.data_dir = data_dir
    config.model.update(model)
    config.train.batch_size, config.train.num_epochs = 140, 1
    config.train.ema_decay = 0.5
    config.optimizer.warmup_epochs = 0.0
    # So that a network that starts from another hardly moves away from it.
    config.optimizer.learning_rate = 1e-3 if not model else 1e-9
    config.seed = 1 if model else 0
    return config


def distances(trained, workdir):
    """How far the head and the stem of a run are from another network's."""
    old, new = trained.variables["params"], restore_run(workdir).variables["params"]
    head = np.abs(new["head"]["kernel"] - old["head"]["kernel"]).max()
    stem = new["stem"]["conv"]["kernel"] - old["stem"]["conv"]["kernel"]
    return head, np.abs(stem).max()


@pytest.mark.parametrize("source", ["run", "model"])
def test_starting_from_a_run_or_a_model(trained, source, small_data_dir, tmp_path):
    config = make_config(small_data_dir, init_from=str(trained / source))
    best = train_and_evaluate(config, tmp_path)
    head, stem = distances(load_trained(trained / source), tmp_path)
    assert head < 1e-6
    assert stem < 1e-6
    assert best["classes"] == list(load_trained(trained / source).classes)


def test_other_classes_get_a_new_head(trained, small_data_dir, tmp_path, caplog):
    model = tmp_path / "model"
    model.mkdir()
    for path in (trained / "model").iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    metadata = json.loads((model / "metadata.json").read_text())
    metadata["classes"] = metadata["classes"][::-1]
    del metadata["sha256"]
    (model / "metadata.json").write_text(json.dumps(metadata))
    with caplog.at_level(logging.INFO):
        config = make_config(small_data_dir, init_from=str(model))
        train_and_evaluate(config, tmp_path / "run")
    assert "with a new head" in caplog.text
    head, stem = distances(load_trained(model), tmp_path / "run")
    assert head > 1e-2
    assert stem < 1e-6


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"name": "vgg"}, "does not fit 'vgg'"),
        ({"mean": (0.4,)}, r"model.mean: .* trained with \[0.508\], found \[0.4\]"),
        ({"init_from": "nowhere"}, "nowhere is neither a training run"),
    ],
)
def test_networks_that_do_not_fit(trained, small_data_dir, tmp_path, model, message):
    config = make_config(small_data_dir)
    config.model.update({"init_from": str(trained / "run")} | model)
    if "name" in model:
        config.model.options = {}
    with pytest.raises(UserError, match=message):
        train_and_evaluate(config, tmp_path)


def test_labels_are_mapped_by_name(small_data_dir):
    builder = datasets.load_builder("synthetic_faces/small", small_data_dir)
    names = builder.info.features["label"].names
    old = open_split(builder, "test", names).labels
    classes = ["contempt", *names[::-1]]
    new = open_split(builder, "test", classes).labels
    assert [classes[i] for i in new] == [names[i] for i in old]
    with pytest.raises(UserError, match="faces of class 'neutral'"):
        open_split(builder, "test", names[:-1])
