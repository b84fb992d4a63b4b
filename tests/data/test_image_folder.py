"""image_folder: splits, names of classes, odd files."""

import collections
import pathlib

import numpy as np
import pytest
from PIL import Image

from deepfer_jax.data import datasets
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.image_folder import parse_class_names
from deepfer_jax.data.pipeline import create_pipeline
from deepfer_jax.data.prepare import prepare
from deepfer_jax.errors import UserError


def write_faces(folder, classes, num=4, size=(60, 50)):
    """`num` images of noise a class; returns the pixels by path from the folder."""
    rng = np.random.default_rng(len(str(folder)))
    pixels = {}
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(num):
            pixels[f"{name}/{i}.png"] = rng.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels[f"{name}/{i}.png"]).save(folder / name / f"{i}.png")
    return pixels


def prepared(folder, data_dir, name="mine", file_format="array_record", **options):
    prepare(f"image_folder/{name}", folder, data_dir, file_format, **options)
    builder = datasets.load_builder(f"image_folder/{name}", data_dir)
    return builder, {s: datasets.load_split(builder, s) for s in builder.info.splits}


def classes_of(builder, split):
    names = builder.info.features["label"].names
    return [names[label] for label in split["label"]]


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_splits_sizes_and_colours(tmp_path, file_format):
    folder = tmp_path / "in"
    train = write_faces(folder / "Train", ["anger", "Happy", "sad"])
    write_faces(folder / "valid", ["happy"], 2)
    write_faces(folder / "TEST", ["neutral", "sadness"], 3)
    options = {"size": 64, "color": "rgb"}
    builder, splits = prepared(
        folder, tmp_path / "out", file_format=file_format, **options
    )
    assert builder.info.features["label"].names == list(EMOTIONS)
    assert {name: len(split["id"]) for name, split in splits.items()} == {
        "train": 12,
        "validation": 2,
        "test": 6,
    }
    assert splits["train"]["image"].shape == (12, 64, 64, 3)
    for i, name in enumerate(splits["train"]["id"]):
        pixels = train[name.removeprefix("Train/")]
        padded = np.pad(pixels, ((0, 0), (5, 5), (0, 0)), "edge")
        expected = np.asarray(Image.fromarray(padded).resize((64, 64), 2)).astype(int)
        assert np.abs(splits["train"]["image"][i] - expected).max() <= 1
    assert classes_of(builder, splits["test"]) == ["neutral"] * 3 + ["sad"] * 3


def test_gray_is_that_of_the_predictor(tmp_path):
    pixels = write_faces(tmp_path / "in", ["happy"], 1, (48, 48))["happy/0.png"]
    _, splits = prepared(tmp_path / "in", tmp_path / "out")
    luma = Image.fromarray(pixels).convert("L")
    found = splits["train"]["image"][0, ..., 0].astype(int)
    assert np.abs(found - np.asarray(luma)).max() <= 1


def test_a_stratified_share_becomes_validation(tmp_path):
    for name, num in (("happy", 20), ("sad", 4), ("fear", 1)):
        write_faces(tmp_path / "in", [name], num, (16, 16))

    def split(number, **options):
        out = tmp_path / f"out{number}"
        builder, splits = prepared(tmp_path / "in", out, size=16, **options)
        return builder, splits

    builder, splits = split(0, validation_fraction=0.2)
    names = classes_of(builder, splits["validation"])
    assert sorted(names) == ["happy"] * 4 + ["sad"]
    assert "fear" in classes_of(builder, splits["train"])
    ids = {name: set(s["id"]) for name, s in splits.items()}
    assert not ids["train"] & ids["validation"]
    assert len(ids["train"] | ids["validation"]) == 25
    again = split(1, validation_fraction=0.2)[1]
    assert again["validation"]["id"] == splits["validation"]["id"]
    other = split(2, validation_fraction=0.2, seed=1)[1]
    assert other["validation"]["id"] != splits["validation"]["id"]
    assert list(split(3, validation_fraction=0.0)[1]) == ["train"]


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.97])
def test_a_class_is_never_all_validation_nor_all_training(tmp_path, fraction):
    for name, num in (("happy", 9), ("sad", 2), ("fear", 1)):
        write_faces(tmp_path / "in", [name], num, (16, 16))
    options = {"size": 16, "validation_fraction": fraction}
    builder, splits = prepared(tmp_path / "in", tmp_path / "out", **options)
    train, validation = (
        collections.Counter(classes_of(builder, splits[name]))
        for name in ("train", "validation")
    )
    expected = {"happy": min(max(round(9 * fraction), 1), 8), "sad": 1}
    assert validation == expected
    assert train == {"happy": 9 - expected["happy"], "sad": 1, "fear": 1}


def test_the_choice_depends_on_the_names_alone(tmp_path, monkeypatch):
    """Not on how the file system lists them, nor on which other classes there are."""
    for folder, classes in (("a", ["sad", "happy"]), ("b", ["fear", "sad", "happy"])):
        write_faces(tmp_path / folder, classes, 9, (16, 16))
    options = {"size": 16, "validation_fraction": 0.3}
    splits = prepared(tmp_path / "a", tmp_path / "out_a", **options)[1]
    listed, recursive = pathlib.Path.iterdir, pathlib.Path.rglob
    monkeypatch.setattr(pathlib.Path, "iterdir", lambda p: [*listed(p)][::-1])
    monkeypatch.setattr(pathlib.Path, "rglob", lambda p, x: [*recursive(p, x)][::-1])
    again = prepared(tmp_path / "a", tmp_path / "out", **options)[1]
    assert again["train"]["id"] == splits["train"]["id"]
    assert again["validation"]["id"] == splits["validation"]["id"]
    more = prepared(tmp_path / "b", tmp_path / "out_b", **options)[1]
    assert set(splits["validation"]["id"]) <= set(more["validation"]["id"])


def test_training_images_are_not_stored_by_class(tmp_path):
    write_faces(tmp_path / "in", ["happy", "sad"], 40, (16, 16))
    builder, splits = prepared(tmp_path / "in", tmp_path / "out", size=16)
    early = classes_of(builder, splits["train"])[:36]
    assert 9 < early.count("happy") < 27
    assert splits["validation"]["id"] == sorted(splits["validation"]["id"])


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_prepared_once_it_is_opened_as_it_is(tmp_path, file_format, capfd):
    """Without repeating any option; another option is not overlooked."""
    folder = tmp_path / "in"
    write_faces(folder / "train", ["1", "2"], 3, (16, 16))
    names = {"1": "sad", "2": "contempt"}
    options = {"size": 20, "color": "rgb", "unknown_classes": "keep"}
    options["class_names"] = names
    _, splits = prepared(folder, tmp_path / "out", file_format=file_format, **options)
    again = "image_folder/mine", None, tmp_path / "out", file_format
    assert list(prepare(*again)["train"]) == [2, 2]
    assert list(prepare(*again, **options)["train"]) == [2, 2]
    builder = datasets.load_builder("image_folder/mine", tmp_path / "out")
    assert builder.info.features["label"].names == ["sad", "contempt"]
    found = datasets.load_split(builder, "train")
    assert found["id"] == splits["train"]["id"]
    assert found["image"].shape == (4, 20, 20, 3)
    for other, message in (
        ({"size": 48}, "with --size 20 and not 48: choose another name"),
        ({"seed": 3}, "with --seed 0 and not 3"),
        ({"class_names": {"1": "sad"}}, "with --class_names"),
    ):
        with pytest.raises(UserError, match=message):
            prepare(*again, **other)
    assert "WARNING" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["resident", "tf.data"])
def test_colours_reach_both_pipelines(tmp_path, name):
    write_faces(tmp_path / "in", ["happy", "sad"], 5, (16, 16))
    options = {"size": 16, "color": "rgb", "file_format": "tfrecord"}
    builder, splits = prepared(tmp_path / "in", tmp_path / "out", **options)
    pipeline = create_pipeline(name, builder, "train", 4, 0, 100)
    assert pipeline.image_shape == (16, 16, 3)
    images = [batch["image"] for batch in pipeline.in_order(3)]
    np.testing.assert_array_equal(np.concatenate(images), splits["train"]["image"])


def test_unknown_classes(tmp_path, capsys):
    folder = tmp_path / "in"
    write_faces(folder, ["happy", "bored", "Awake", "sad"], 2, (16, 16))
    with pytest.raises(UserError, match=r"in/Awake: .* --unknown_classes"):
        prepared(folder, tmp_path / "out", size=16)
    assert not (tmp_path / "out").exists()
    options = {"size": 16, "validation_fraction": 0.0}
    builder, splits = prepared(
        folder, tmp_path / "out", "skip", unknown_classes="skip", **options
    )
    assert sorted(classes_of(builder, splits["train"])) == ["happy"] * 2 + ["sad"] * 2
    assert "left out: 2 images of the unknown class bored" in capsys.readouterr().out
    (folder / "bored").rename(folder / "7_Bored")
    builder, splits = prepared(
        folder, tmp_path / "out", "keep", unknown_classes="keep", **options
    )
    names = ["happy", "sad", "awake", "bored"]
    assert builder.info.features["label"].names == names
    assert sorted(classes_of(builder, splits["train"])) == sorted(names * 2)
    assert "bored" in capsys.readouterr().out


def test_numbers_are_not_guessed(tmp_path):
    write_faces(tmp_path / "in" / "train", ["1", "2"], 1, (16, 16))
    with pytest.raises(UserError, match=r"train/1: a number .* --class_names"):
        prepared(tmp_path / "in", tmp_path / "out")
    names = parse_class_names("1=surprise, 2 = Fear")
    builder, splits = prepared(tmp_path / "in", tmp_path / "out", class_names=names)
    assert sorted(classes_of(builder, splits["train"])) == ["fear", "surprise"]
    found = dict(
        zip(splits["train"]["id"], classes_of(builder, splits["train"]), strict=True)
    )
    assert found == {"train/1/0.png": "surprise", "train/2/0.png": "fear"}
    names = parse_class_names("1=surprise,2=fear,3=disgust")
    with pytest.raises(UserError, match=r"--class_names: .* has no class folder 3"):
        prepared(tmp_path / "in", tmp_path / "out2", class_names=names)
    for text in ("1", "=fear", "1=,2=sad"):
        with pytest.raises(UserError, match="folder=class"):
            parse_class_names(text)


def test_other_files_are_counted_and_bad_images_named(tmp_path, capsys):
    folder = tmp_path / "in"
    write_faces(folder, ["happy"], 2, (16, 16))
    (folder / "happy" / "Thumbs.db").touch()
    (folder / "happy" / ".hidden.png").touch()
    prepared(folder, tmp_path / "out", validation_fraction=0.0)
    assert (
        "left out: 1 files that are not called like images" in capsys.readouterr().out
    )
    (folder / "._3.png").touch()
    (folder / "labels.csv").touch()
    prepared(folder, tmp_path / "out", "again", validation_fraction=0.0)
    (folder / "3.png").touch()
    with pytest.raises(UserError, match=r"in/3\.png: .* in folders of classes only"):
        prepared(folder, tmp_path / "other")
    (folder / "3.png").unlink()
    (folder / "happy" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match=r"happy/bad\.jpg: not a whole image"):
        prepared(folder, tmp_path / "other")
    assert not list((tmp_path / "other").rglob("*.json"))


def test_folders_that_are_none(tmp_path):
    def expect(message, **options):
        with pytest.raises(UserError, match=message):
            prepared(tmp_path / "in", tmp_path / "out", **options)

    (tmp_path / "in").mkdir()
    expect("holds no image in a folder of a class")
    write_faces(tmp_path / "in" / "train", ["happy"], 1, (16, 16))
    (tmp_path / "in" / "more").mkdir()
    expect("in/more: expected a folder train, val or test beside train")
    (tmp_path / "in" / "more").rename(tmp_path / "in" / "Training")
    expect("two folders are the same split")
    (tmp_path / "in" / "Training").rmdir()
    expect("--seed: expected 0 or more, found -1", seed=-1)
    expect("--size: expected 16 to 1024 pixels, found 8", size=8)
    expect("--validation_fraction", validation_fraction=1.5)
    expect("of letters, digits", name="a b")
    with pytest.raises(UserError, match="--size: only of a data set image_folder/NAME"):
        prepare("fer2013", tmp_path, tmp_path / "out", "array_record", size=8)
    for name in ("image_folder", "image_folder/", "image_folder/a/b", "image_folder/."):
        with pytest.raises(UserError, match="expected image_folder/NAME"):
            datasets.load_builder(name, tmp_path)
    write_faces(tmp_path / "archive" / "all" / "train", ["happy"], 1, (16, 16))
    with pytest.raises(UserError, match="all/train: expected images of the class all;"):
        prepare(
            "image_folder/x", tmp_path / "archive", tmp_path / "out", "array_record",
            unknown_classes="keep",
        )  # fmt: skip
    with pytest.raises(UserError, match="--dataset image_folder/mine"):
        datasets.load_builder("image_folder/mine", tmp_path)
