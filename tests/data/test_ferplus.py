"""ferplus: the rules for votes by hand, the files, soft targets in both pipelines."""

import csv

import numpy as np
import pytest

from deepfer_jax.data import datasets, ferplus
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.pipeline import create_pipeline
from deepfer_jax.data.prepare import prepare
from deepfer_jax.errors import UserError
from tests.fer_files import csv_text, random_rows

# In FER+'s order of columns.
NEUTRAL, HAPPY, SURPRISE, SAD, ANGRY, DISGUST, FEAR, CONTEMPT, UNKNOWN, NF = range(10)


def votes(**counts):
    row = np.zeros(10, int)
    for name, count in counts.items():
        row[globals()[name.upper()]] = count
    return row


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (votes(happy=10), HAPPY),
        (votes(happy=6, sad=4), HAPPY),
        (votes(happy=5, sad=5), None),  # a tie
        (votes(happy=5, sad=3, fear=2), None),  # half is not more than half
        (votes(happy=5, sad=3, fear=1, angry=1), HAPPY),  # single votes are dropped
        (votes(happy=4, sad=1, fear=1, angry=1, disgust=1, unknown=2), HAPPY),
        (votes(unknown=6, happy=4), None),
        (votes(nf=10), None),
        (votes(happy=1, sad=1, fear=1), None),  # nothing is left
    ],
)
def test_majority(given, expected):
    assert ferplus.majority(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (votes(happy=10), {HAPPY: 1}),
        (votes(happy=8, sad=2), {HAPPY: 1}),  # 8 of 10 reach three quarters
        (votes(happy=6, sad=4), {HAPPY: 0.6, SAD: 0.4}),
        (votes(happy=5, sad=5), {HAPPY: 0.5, SAD: 0.5}),
        (votes(happy=4, sad=3, fear=3), {HAPPY: 0.4, SAD: 0.3, FEAR: 0.3}),
        (votes(happy=5, sad=4, fear=1), {HAPPY: 5 / 9, SAD: 4 / 9}),
        (votes(happy=6, unknown=4), {HAPPY: 1}),  # unknown ends it
        (votes(happy=5, unknown=5), None),  # half is too little
        (votes(unknown=6, happy=4), None),
        (votes(nf=8, happy=2), None),
        (votes(happy=4, sad=2, fear=2, angry=2), None),  # four classes, by a tie
        (votes(happy=2, sad=2, fear=2, angry=2, disgust=2), None),
        (votes(happy=4, unknown=3, sad=3), {HAPPY: 4 / 7, SAD: 3 / 7}),
        (votes(happy=1, sad=1), None),
    ],
)
def test_distribution(given, expected):
    found = ferplus.distribution(given)
    if expected is None:
        assert found is None
    else:
        row = np.zeros(8)
        row[list(expected)] = list(expected.values())
        np.testing.assert_allclose(found, row, atol=1e-6)


ALL_VOTES = [
    votes(happy=10),
    votes(contempt=9, sad=1),
    votes(sad=6, contempt=4),
    votes(angry=5, fear=5),
    votes(nf=10),
    votes(surprise=7, fear=3),
    votes(neutral=10),  # of a face without a name: left out
] * 2 + [votes(disgust=10)] * 7


@pytest.fixture
def folder(tmp_path):
    rows = random_rows("Training", 14) + random_rows("PublicTest", 7)
    (tmp_path / "fer2013.csv").write_text(csv_text(rows))
    with (tmp_path / "fer2013new.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        columns = (*ferplus.COLUMNS, "unknown", "NF")
        writer.writerow(["Usage", "Image name", *columns])
        for i, (row, counts) in enumerate(zip(rows, ALL_VOTES, strict=True)):
            name = "" if i % 7 == 6 and i < 14 else f"fer{i:07d}.png"
            writer.writerow([row["Usage"], name, *counts])
    return tmp_path


def load(folder, name, split, file_format="array_record"):
    prepare(f"ferplus/{name}", folder, folder / "data", file_format)
    builder = datasets.load_builder(f"ferplus/{name}", folder / "data")
    return builder, datasets.load_split(builder, split)


def test_majority_has_eight_classes_and_leaves_out_the_rest(folder):
    builder, faces = load(folder, "majority", "train")
    names = builder.info.features["label"].names
    assert names == [*EMOTIONS, "contempt"]
    labels = [names[label] for label in faces["label"]]
    assert labels == ["happy", "contempt", "sad", "surprise"] * 2
    assert faces["id"][:4] == [f"Training_{i:05d}" for i in (0, 1, 2, 5)]
    assert "target" not in faces


def test_distribution_is_soft_in_train_and_majority_elsewhere(folder):
    builder, faces = load(folder, "distribution", "train")
    assert faces["target"].shape == (10, 8)
    np.testing.assert_allclose(faces["target"].sum(1), 1)
    angry_or_fear = np.zeros(8)
    angry_or_fear[[0, 2]] = 0.5
    np.testing.assert_allclose(faces["target"][3], angry_or_fear)
    test = datasets.load_split(builder, "public_test")
    np.testing.assert_array_equal(test["target"], np.eye(8)[test["label"]])


def test_seven_classes_do_without_contempt(folder):
    builder, faces = load(folder, "distribution7", "train")
    assert builder.info.features["label"].names == list(EMOTIONS)
    names = [EMOTIONS[label] for label in faces["label"]]
    # The face of contempt has one vote left, an outlier; sad 6, contempt 4 is sad.
    assert names == ["happy", "sad", "angry", "surprise"] * 2
    assert faces["target"][1].max() == 1


@pytest.mark.parametrize("pipeline", ["resident", "tf.data"])
def test_soft_targets_reach_the_step(folder, pipeline):
    builder, faces = load(folder, "distribution", "train", "tfrecord")
    opened = create_pipeline(pipeline, builder, "train", 5, 0, 100)
    resident, inputs = next(iter(opened.epoch(0, 0, 1)))
    batch = (
        opened.lookup(resident, inputs[0, 0])
        if pipeline == "resident"
        else {name: x[0, 0] for name, x in inputs.items()}
    )
    for image, target in zip(batch["image"], batch["target"], strict=True):
        places = (faces["image"] == np.asarray(image)).all((1, 2, 3))
        np.testing.assert_array_equal(faces["target"][places.argmax()], target)


def test_files_that_do_not_belong_together_are_refused(folder):
    path = folder / "fer2013new.csv"
    lines = path.read_text().splitlines()

    def expect(message, text):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            prepare("ferplus/majority", folder, folder / "data", "array_record")

    expect("21 rows|a row for each face", "\n".join(lines[:-3]))
    expect("line 2: Usage", "\n".join([lines[0], *lines[::-1]][:-1]))
    expect(
        "columns .*NF.* missing", "\n".join([lines[0].replace("NF", "X"), *lines[1:]])
    )
    bad = lines[1].rpartition(",")[0] + ",many"
    expect("line 2: expected ten", "\n".join([lines[0], bad, *lines[2:]]))
    path.unlink()
    with pytest.raises(UserError, match=r"fer2013new\.csv is missing"):
        prepare("ferplus/majority", folder, folder / "data", "array_record")
