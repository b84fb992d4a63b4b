"""distill: what a teacher says, and that a student learns it and nothing else."""

import copy
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.data import datasets
from deepfer_jax.data.pipeline import Resident
from deepfer_jax.errors import UserError
from deepfer_jax.runs.trained import build_model, load_trained
from deepfer_jax.training import train
from deepfer_jax.training.distill import ask_once, load_teacher
from deepfer_jax.training.groups import Groups
from deepfer_jax.training.phases import make_phase
from deepfer_jax.training.state import eval_variables
from deepfer_jax.training.train import train_and_evaluate
from tests import small_recipe


@pytest.fixture(scope="module")
def teachers(small_data_dir, tmp_path_factory):
    """Folders of two runs, which normalise otherwise."""
    folders = []
    for seed, normalization in enumerate(("dataset", "face")):
        config = small_recipe.get_config()
        config.dataset.data_dir = small_data_dir
        config.seed, config.model.normalization = seed, normalization
        config.train.num_epochs = 1
        folders.append(str(tmp_path_factory.mktemp("teacher")))
        train_and_evaluate(config, folders[-1])
    return folders


@pytest.fixture(scope="module")
def faces(small_data_dir):
    builder = datasets.load_builder("synthetic_faces/small", small_data_dir)
    return Resident(builder, "train", batch_size=28, seed=0)


def make_config(small_config, teachers, **distill):
    config = copy.deepcopy(small_config)
    config.distill.update({"teachers": tuple(teachers)} | distill)
    config.augment.update({"flip": 0.5, "erasing": 0.5})
    return config


def softmax_of(folder, images, temperature):
    """By hand, of one network that reads images as they are."""
    trained = load_trained(folder)
    if trained.model_config.normalization == "face":
        deviation = images.std((1, 2, 3), keepdims=True)
        images = (images - images.mean((1, 2, 3), keepdims=True)) / deviation
    else:
        images = (images - 0.508) / 0.255
    model = build_model(trained.model_config, trained.classes)
    logits = model.apply(trained.variables, jnp.asarray(images))
    return np.asarray(jax.nn.softmax(logits / temperature))


def test_teachers_are_averaged_each_through_its_own_preprocessing(
    small_config, teachers, faces
):
    config = make_config(small_config, teachers, temperature=3.0)
    teacher = load_teacher(config.distill, faces.classes)
    images = next(faces.in_order(8))["image"].astype(np.float32) / 255
    ours = teacher.predict(teacher.variables, jnp.asarray(images))
    expected = np.mean([softmax_of(t, images, 3.0) for t in teachers], axis=0)
    np.testing.assert_allclose(ours, expected, atol=1e-3)
    np.testing.assert_allclose(ours.sum(1), 1, atol=1e-6)


def test_no_teacher_is_none(small_config, faces):
    assert load_teacher(small_config.distill, faces.classes) is None


def test_a_teacher_of_other_classes_is_refused(small_config, teachers):
    config = make_config(small_config, teachers)
    with pytest.raises(UserError, match=r"distill.teachers: .* trained on the classes"):
        load_teacher(config.distill, ("happy", "sad"))


def run(config, faces):
    """State after a few steps, and the metrics of each."""
    teacher = load_teacher(config.distill, faces.classes)
    init, run_steps = make_phase(config, faces, Groups().phase(0), teacher)
    state, found = init(), []
    for resident, inputs in list(faces.epoch(0, 0, 1))[:5]:
        state, metrics = run_steps(state, resident, inputs)
        found.append(jax.device_get(metrics))
    return jax.device_get(eval_variables(state)), found


def test_a_student_learns_from_its_teachers_not_from_labels(
    small_config, teachers, faces
):
    config = make_config(small_config, teachers, weight=1.0)
    taught, metrics = run(config, faces)
    others = copy.copy(faces)
    labels = np.asarray(faces._arrays["label"])
    others._arrays = faces._arrays | {"label": (labels + 1) % 7}
    same, _ = run(config, others)
    jax.tree.map(np.testing.assert_array_equal, taught, same)
    assert all(np.isfinite(m["loss"]).all() for m in metrics)
    half, _ = run(make_config(small_config, teachers, weight=0.5), faces)
    other_half, _ = run(make_config(small_config, teachers, weight=0.5), others)
    kernels = [x["params"]["head"]["kernel"] for x in (half, other_half)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-4


def test_weight_and_temperature_are_checked(small_config, tmp_path):
    for field, value in (("weight", 1.5), ("temperature", 0.0)):
        config = make_config(small_config, (), **{field: value})
        with pytest.raises(UserError, match=rf"config.distill.{field}: expected"):
            train_and_evaluate(config, tmp_path)


def test_a_fixed_teacher_speaks_of_each_face_and_its_mirror_image(
    small_config, teachers, faces
):
    config = make_config(small_config, teachers)
    teacher = load_teacher(config.distill, faces.classes)
    asked = ask_once(teacher, faces, 0.7)
    batch = next(faces.in_order(8))
    images = batch["image"].astype(np.float32) / 255
    views = [
        softmax_of(t, x, 1.0) for t in teachers for x in (images, images[:, :, ::-1])
    ]
    expected = 0.7 * np.mean(views, 0) + 0.3 * np.eye(7)[batch["label"]]
    np.testing.assert_allclose(asked[:8], expected, atol=1e-3)
    assert asked.shape == (faces.num_examples, 7)
    np.testing.assert_array_equal(ask_once(teacher, faces, 0.0).argmax(1), faces.labels)


def test_a_run_learns_what_a_fixed_teacher_said_and_goes_on(
    small_config, teachers, faces, tmp_path, monkeypatch
):
    def say_surprised(teacher, data, weight):
        assert weight == 0.5
        return np.eye(7, dtype=np.float32)[np.full(data.num_examples, 6)]

    monkeypatch.setattr(train, "ask_once", say_surprised)
    config = make_config(small_config, teachers, fixed=True, weight=0.5)
    config.train.num_epochs = 1
    train_and_evaluate(config, tmp_path)
    config.train.num_epochs = 2  # the data is still the same
    train_and_evaluate(config, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    accuracies = [json.loads(x).get("train/accuracy", 0) for x in lines]
    assert max(accuracies) > 0.9  # the labels have seven classes


def test_what_a_fixed_teacher_cannot_do_is_refused(small_config, tmp_path):
    config = make_config(small_config, (), fixed=True, temperature=2.0)
    with pytest.raises(UserError, match=r"config.distill.fixed: expected"):
        train_and_evaluate(config, tmp_path)
