"""fer2013: both forms of the files are read exactly, and bad ones are named."""

import csv
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from deepfer_jax.data import datasets
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.fer2013 import Fer2013
from deepfer_jax.data.prepare import prepare
from tests.fer_files import (
    HEADER,
    NEW_HEADER,
    all_rows,
    csv_text,
    random_rows,
    write_csv,
    write_folders,
)

SPLIT_OF = {
    "Training": "train",
    "PublicTest": "public_test",
    "PrivateTest": "private_test",
}
FORMATS = pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])


def load_all(data_dir):
    builder = datasets.load_builder("fer2013", data_dir)
    return {name: datasets.load_split(builder, name) for name in builder.info.splits}


def assert_holds(found, rows, ids=None):
    """All splits hold these rows, in this order."""
    assert set(found) == {SPLIT_OF[row["Usage"]] for row in rows}
    for usage, split in SPLIT_OF.items():
        expected = [(i, row) for i, row in enumerate(rows) if row["Usage"] == usage]
        if not expected:
            continue
        data = found[split]
        assert data["image"].dtype == np.uint8
        assert data["label"].dtype == np.int32
        np.testing.assert_array_equal(
            data["image"], [row["pixels"][..., None] for _, row in expected]
        )
        assert data["label"].tolist() == [row["emotion"] for _, row in expected]
        if ids is not None:
            assert data["id"] == [ids(i, row) for i, row in expected]


@FORMATS
@pytest.mark.parametrize(
    ("header", "name"),
    [(HEADER, "fer2013.csv"), (NEW_HEADER, "icml_face_data.csv")],
)
def test_csv_comes_back_exactly_and_in_order(tmp_path, header, name, file_format):
    rows = all_rows()
    write_csv(tmp_path / "in", rows, header, name)
    prepare("fer2013", tmp_path / "in", tmp_path / "out", file_format)
    found = load_all(tmp_path / "out")
    assert_holds(found, rows, lambda i, row: f"{row['Usage']}_{i:05d}")


@FORMATS
def test_order_holds_over_several_files(tmp_path, file_format):
    rows = random_rows("Training", 60)
    builder = Fer2013(data_dir=tmp_path / "out", file_format=file_format)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
            manual_dir=write_csv(tmp_path / "in", rows), num_shards=3
        )
    )
    assert builder.info.splits["train"].num_shards == 3
    assert_holds(load_all(tmp_path / "out"), rows)


def test_features(tmp_path):
    write_csv(tmp_path / "in", random_rows("Training"))
    prepare("fer2013", tmp_path / "in", tmp_path / "out", "array_record")
    features = datasets.load_builder("fer2013", tmp_path / "out").info.features
    assert features["label"].names == list(EMOTIONS)
    assert features["image"].shape == (48, 48, 1)
    assert features["image"].np_dtype == np.uint8


def test_windows_csv_with_byte_order_mark_quotes_and_blank_lines(tmp_path):
    rows = random_rows("Training")
    lines = [
        '"' + line.replace(",", '","') + '"' for line in csv_text(rows).splitlines()
    ]
    text = "\r\n".join([lines[0], "", *lines[1:], "", ""])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "fer2013.csv").write_bytes(text.encode("utf-8-sig"))
    prepare("fer2013", tmp_path / "in", tmp_path / "out", "array_record")
    assert_holds(
        load_all(tmp_path / "out"), rows, lambda i, row: f"{row['Usage']}_{i:05d}"
    )


@FORMATS
@pytest.mark.parametrize("sub_folder", ["", "images"])
def test_folders_come_back_exactly(tmp_path, sub_folder, file_format):
    rows = sorted(all_rows(), key=lambda row: (row["Usage"], row["emotion"]))
    write_folders(tmp_path / "in" / sub_folder, rows)
    (tmp_path / "in" / sub_folder / "train" / "angry" / ".DS_Store").write_text("x")
    prepare("fer2013", tmp_path / "in", tmp_path / "out", file_format)
    found = load_all(tmp_path / "out")
    by_id = {
        f"{'train' if row['Usage'] == 'Training' else 'test'}/"
        f"{EMOTIONS[row['emotion']]}/{row['Usage']}_{i}": row
        for i, row in enumerate(rows)
    }
    assert sum(len(data["id"]) for data in found.values()) == len(rows)
    for split, data in found.items():
        assert data["id"] == sorted(data["id"])
        for image, label, name in zip(*data.values(), strict=True):
            row = by_id[name]
            assert SPLIT_OF[row["Usage"]] == split
            assert row["emotion"] == label
            np.testing.assert_array_equal(image[..., 0], row["pixels"])


def test_other_spellings_of_emotions(tmp_path):
    rows = random_rows("Training")
    names = ("Anger", "Disgusted", "fearful", "happiness", "sadness", "surprised")
    write_folders(tmp_path / "in", rows, names=(*names, "Neutral"))
    prepare("fer2013", tmp_path / "in", tmp_path / "out", "array_record")
    labels = load_all(tmp_path / "out")["train"]["label"]
    assert sorted(labels) == list(range(7))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1"])
def test_gray_images_of_other_kinds_become_gray(tmp_path, mode):
    rows = random_rows("Training")
    if mode == "1":
        for row in rows:
            row["pixels"] = np.where(row["pixels"] < 128, 0, 255).astype(np.uint8)
    write_folders(tmp_path / "in", rows)
    for path in (tmp_path / "in").rglob("*.png"):
        with Image.open(path) as image:
            converted = image.convert(mode)
        converted.save(path)
    prepare("fer2013", tmp_path / "in", tmp_path / "out", "array_record")
    data = load_all(tmp_path / "out")["train"]
    assert sorted(data["label"]) == list(range(7))
    for image, label in zip(data["image"], data["label"], strict=True):
        np.testing.assert_array_equal(image[..., 0], rows[label]["pixels"])


REAL = pathlib.Path(__file__).parents[3] / "shared" / "data" / "fer2013"


@pytest.mark.skipif(not REAL.exists(), reason="the real faces are not here")
def test_a_few_real_faces(tmp_path):
    with (REAL / "faces.csv").open(newline="") as file:
        emotions = [int(row["emotion"]) for row in csv.DictReader(file)][:300]
    with Image.open(REAL / "faces-00.webp") as image:
        sheet = np.asarray(image.convert("L"))
    rows = [
        {
            "emotion": emotion,
            "pixels": sheet[i // 40 * 48 :, i % 40 * 48 :][:48, :48],
            "Usage": "Training",
        }
        for i, emotion in enumerate(emotions)
    ]
    write_csv(tmp_path / "in", rows)
    prepare("fer2013", tmp_path / "in", tmp_path / "out", "array_record")
    assert_holds(load_all(tmp_path / "out"), rows)
