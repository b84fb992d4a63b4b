"""The drawn faces: deterministic, balanced, stored well, neither easy nor arbitrary."""

import itertools

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from deepfer_jax.data.contact_sheet import contact_sheet
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.synthetic.builder import (
    SPLITS,
    SyntheticFaces,
    draw_example,
    draw_face,
)

SMALL = {"train": 280, "validation": 140, "test": 140}


def draw_split(split, number):
    """Returns float [number, 2304] and the emotions' names."""
    drawn = [draw_example(0, split, index) for index in range(number)]
    images, emotions = zip(*drawn, strict=True)
    return np.array(images).reshape(number, -1).astype(np.float32), emotions


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_face_depends_on_the_generator_alone(emotion):
    first, again, other = (
        draw_face(np.random.default_rng(seed), emotion) for seed in (5, 5, 6)
    )
    assert first.shape == (48, 48)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_examples_depend_on_seed_split_and_index():
    examples = [
        draw_example(seed, split, index)[0].tobytes()
        for seed in (0, 1)
        for split in SPLITS
        for index in (0, 7)
    ]
    assert len(set(examples)) == len(examples)


def test_an_unknown_emotion_is_named():
    with pytest.raises(ValueError, match="found 'bored'"):
        draw_face(np.random.default_rng(0), "bored")


def test_every_emotion_changes_the_face_but_not_what_is_around_it():
    """Equal seeds draw one person: where and how far do two emotions differ?"""
    faces = {
        emotion: np.array(
            [draw_face(np.random.default_rng(seed), emotion) for seed in range(20)],
            np.float32,
        )
        for emotion in EMOTIONS
    }
    for one, other in itertools.combinations(EMOTIONS, 2):
        difference = np.abs(faces[one] - faces[other]).mean(0)
        features, corners = difference[12:40, 12:36], difference[:4, [0, 1, -2, -1]]
        assert features.mean() > 3, (one, other)
        assert features.mean() > 2 * corners.mean(), (one, other)


def test_a_linear_classifier_finds_something_but_not_enough():
    """Chance is 14.3 %; a small convolutional network exceeds 90 %."""
    images, emotions = draw_split("train", 1400)
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=1e-3, max_iter=100)
    )
    with threadpool_limits(1):  # More threads than free cores are far slower.
        classifier.fit(images, emotions)
    accuracy = classifier.score(*draw_split("test", 700))
    assert 0.25 < accuracy < 0.6


def test_the_full_configuration_is_the_default():
    assert SyntheticFaces.name == "synthetic_faces"
    full, small = SyntheticFaces.BUILDER_CONFIGS
    assert (full.name, small.name) == ("full", "small")
    numbers = full.num_train, full.num_validation, full.num_test
    assert numbers == (5600, 1400, 1400)
    assert not any(number % len(EMOTIONS) for number in numbers)


@pytest.mark.parametrize("split", SPLITS)
def test_the_builder_stores_what_was_drawn(small_data_dir, split):
    builder = tfds.builder("synthetic_faces/small", data_dir=small_data_dir)
    names = builder.info.features["label"].names
    assert tuple(names) == EMOTIONS
    examples = list(tfds.as_numpy(builder.as_dataset(split=split)))
    assert len(examples) == SMALL[split]
    labels = [example["label"] for example in examples]
    np.testing.assert_array_equal(np.bincount(labels), SMALL[split] // 7)
    for index in (0, 1, 12, SMALL[split] - 1):
        image, emotion = draw_example(0, split, index)
        example = examples[index]
        np.testing.assert_array_equal(example["image"][..., 0], image)
        assert names[example["label"]] == emotion
        assert example["id"].decode() == f"{split}_{index:05d}"


def test_prepares_and_reads_without_tensorflow(run_python, tmp_path):
    program = """
import sys
import tests.no_tensorflow
import numpy as np
from deepfer_jax.data.synthetic.builder import SyntheticFaces, draw_example
builder = SyntheticFaces(
    config="small", data_dir=sys.argv[1], file_format="array_record")
builder.download_and_prepare()
source = builder.as_data_source("validation")
names = builder.info.features["label"].names
for index in (0, 3, 139):
    image, emotion = draw_example(0, "validation", index)
    example = source[index]
    assert np.array_equal(example["image"], image[..., None])
    assert names[example["label"]] == emotion
    assert example["id"] in (f"validation_{index:05d}", b"validation_%05d" % index)
assert "tensorflow" not in sys.modules
print(len(source))
"""
    assert run_python("-c", program, tmp_path).stdout.split()[-1] == "140"


def test_contact_sheet_keeps_every_pixel():
    images = np.random.default_rng(0).integers(0, 255, (2, 3, 5, 4), np.uint8)
    sheet = contact_sheet(images, scale=2)
    assert sheet.shape == (2 * 12 + 2, 3 * 10 + 2)
    np.testing.assert_array_equal(sheet[14:24:2, 22:30:2], images[1, 2])
    assert (sheet[:2] == 255).all()
    colour = contact_sheet(np.zeros((1, 1, 5, 4, 3), np.uint8), scale=1)
    assert colour.shape == (9, 8, 3)


def test_contact_sheet_refuses_what_is_no_grid():
    with pytest.raises(ValueError, match=r"found float64 \(2, 3\)"):
        contact_sheet(np.zeros((2, 3)))


def test_show_faces_writes_the_sheet(run_python, tmp_path):
    out = tmp_path / "faces.png"
    run_python("scripts/show_faces.py", "--out", out, "--columns", 2)
    assert out.stat().st_size > 5000
