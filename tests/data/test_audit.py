"""audit: groups of made faces by hand; training without the copies of test faces."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from deepfer_jax.data import datasets
from deepfer_jax.data.audit import audit, copies_of_other_splits, near_copies_of
from deepfer_jax.data.pipeline import create_pipeline
from deepfer_jax.data.prepare import prepare
from deepfer_jax.data.synthetic.builder import draw_face
from deepfer_jax.training.train import open_data
from tests.fer_files import csv_text


def face(seed):
    return draw_face(np.random.default_rng(seed), "surprise")


def near(image):
    """Half a pixel to the side, a little larger, darker and noisy."""
    moved = Image.fromarray(image).crop((1, 1, 48, 48)).resize((48, 48), 2)
    noise = np.random.default_rng(0).normal(0, 2, (48, 48))
    return np.clip(np.asarray(moved) * 0.8 + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Faces 0 to 13 are told apart; then copies of some of them."""
    folder = tmp_path_factory.mktemp("audit")
    faces = [("Training", i % 7, face(i)) for i in range(14)]
    faces += [
        ("Training", 0, face(0)),  # 14: within the split
        ("PublicTest", 1, face(1)),  # 15: across
        ("PublicTest", 5, face(2)),  # 16: across, another label
        ("PublicTest", 3, near(face(3))),  # 17: nearly, across
        ("Training", 4, face(4)[:, ::-1]),  # 18: mirrored
        ("PublicTest", 6, face(99)),  # 19: alone
        ("Training", 2, np.full((48, 48), 7, np.uint8)),  # 20: one colour
    ]
    rows = [{"Usage": u, "emotion": e, "pixels": p} for u, e, p in faces]
    (folder / "fer2013.csv").write_text(csv_text(rows))
    prepare("fer2013", folder, folder / "data", "tfrecord")
    return folder / "data"


@pytest.fixture(scope="module")
def builder(data_dir):
    return datasets.load_builder("fer2013", data_dir)


def members(groups, ids):
    found = {}
    for group, name in zip(groups, ids, strict=True):
        found.setdefault(group, set()).add(int(name[-5:]))
    return {frozenset(group) for group in found.values() if len(group) > 1}


def test_groups_are_those_that_were_made(builder):
    found = audit(builder)
    exact = {frozenset(g) for g in ((0, 14), (1, 15), (2, 16))}
    assert members(found.exact, found.ids) == exact
    near = {frozenset(g) for g in ((3, 17), (4, 18))}
    assert members(found.near, found.ids) == exact | near


def test_faces_that_training_has_seen(builder):
    seen = near_copies_of(builder, "public_test", "train")
    faces = datasets.load_split(builder, "public_test")
    names = [name for name, yes in zip(faces["id"], seen, strict=True) if yes]
    assert [int(name[-5:]) for name in names] == [15, 16, 17]


def test_the_script_prints_and_writes_them(data_dir, run_python):
    out = run_python(
        "scripts/prepare_data.py", "--dataset", "fer2013", "--data_dir", data_dir,
        "--audit",
    ).stdout  # fmt: skip
    table = [
        line.split()[-4:] for line in out.splitlines() if line.startswith("exact ")
    ]
    assert table[-2:] == [["3", "6", "2", "1"], ["5", "10", "3", "1"]]
    with (data_dir / "audit" / "fer2013_1.0.0.csv").open() as file:
        rows = {int(row["id"][-5:]): row for row in csv.DictReader(file)}
    assert len(rows) == 10
    assert rows[3]["group"] == rows[17]["group"]
    assert (rows[17]["split"], rows[17]["label"]) == ("public_test", "happy")
    assert (rows[17]["kind"], rows[0]["kind"]) == ("near", "exact")
    summary = json.loads((data_dir / "audit" / "fer2013_1.0.0.json").read_text())
    assert summary["exact"]["conflicting_labels"] == 1


@pytest.mark.parametrize("pipeline", ["resident", "tf.data"])
def test_copies_of_test_faces_are_left_out_of_training(builder, pipeline):
    copies = copies_of_other_splits(builder, "train")
    whole = create_pipeline(pipeline, builder, "train", 4, 0, 100)
    kept = create_pipeline(pipeline, builder, "train", 4, 0, 100, copies)
    left_out = {name for name in whole.ids if name not in kept.ids}
    assert left_out == {"Training_00001", "Training_00002"}
    assert kept.num_examples == whole.num_examples - 2
    assert kept.label_counts.sum() == kept.num_examples
    seen = [batch["image"] for batch in kept.in_order(5)]
    assert sum(map(len, seen)) == kept.num_examples
    assert not (np.concatenate(seen) == face(1)[..., None]).all((1, 2, 3)).any()
    batches = [inputs for _, inputs in kept.epoch(0, 0, 1)]
    assert len(batches) == kept.num_examples // 4


def test_the_option_is_read_and_said(data_dir, caplog):
    from configs import default

    config = default.get_config()
    config.dataset.name, config.dataset.data_dir = "fer2013", str(data_dir)
    config.dataset.validation_split = "public_test"
    config.dataset.exclude_test_copies = True
    config.train.batch_size = 4
    with caplog.at_level("INFO"):
        train, validation = open_data(config)
    assert (train.num_examples, validation.num_examples) == (15, 4)
    assert "2 of 17 training faces are also in other splits" in caplog.text
