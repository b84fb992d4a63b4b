"""measuring.delivery, peers, explanations: counted by hand on what is known."""

import sys

import numpy as np
import pytest
from measuring import delivery, explanations
from measuring.peers import read_with_fer

from deepfer_jax.data import datasets
from deepfer_jax.errors import UserError
from deepfer_jax.faces.crop import Framing
from deepfer_jax.faces.face import Face
from deepfer_jax.runs.trained import load_trained

# Finds one face, where the brightest pixel is.
FER = """
import numpy as np
class FER:
    def detect_emotions(self, image):
        assert image.shape[2] == 3 and image[..., 0].max() < image[..., 2].max()  # BGR
        y, x = np.unravel_index(image[..., 2].argmax(), image.shape[:2])
        return [{"box": [x, y, 10, 20], "emotions": {"sad": 0.2, "happy": 0.7}}]
"""


def test_faces_stand_in_the_middle_of_textures():
    faces = np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8)
    frames = delivery.make_frames(faces, 48)
    assert frames.shape == (3, 96, 96)
    np.testing.assert_array_equal(frames[:, 24:72, 24:72], faces)
    assert frames[:, :24].std((1, 2)).min() > 5


def test_crops_are_told_by_shift_scale_and_roll():
    def face(left, top, side, degrees=0.0):
        eye = np.array([left + side / 2, top + side / 2])
        angle = np.radians(degrees)
        eyes = np.stack([eye, eye + 10 * np.array([np.cos(angle), np.sin(angle)])])
        box = np.array([left, top, left + side, top + side], np.float32)
        return Face(box, 1.0, eyes.astype(np.float32), "happy", 1.0, np.ones(1), False)

    true = np.array([50.0, 50.0, 150.0, 150.0])
    same, other = face(50, 50, 100), face(60, 45, 200, 10)
    found = delivery.describe_crops([same, same], Framing(), true)
    assert found == {key: [0.0, 0.0] for key in ("x", "y", "log2_scale", "roll")}
    found = delivery.describe_crops([same, other], Framing(), true)
    # Its middle is (160, 145), not (100, 100): 0.6 and 0.45 of the true side off.
    assert found["x"] == pytest.approx([0.3, 0.3], abs=1e-3)
    assert found["y"] == pytest.approx([0.225, 0.225], abs=1e-3)
    assert found["log2_scale"] == pytest.approx([0.5, 0.5], abs=1e-3)
    assert found["roll"] == pytest.approx([5.0, 5.0], abs=1e-2)


def test_measuring(small_data_dir):
    builder = datasets.load_builder("synthetic_faces/small", small_data_dir)
    rows = delivery.measure_delivery("tiny", builder, "test", 12, widths=(100,))
    assert [row["reader"] for row in rows] == ["short", "full"]
    for row in rows:
        assert row["n"] == 12
        assert 0 < row["found"] <= 12
        assert max(row["uncut"], row["right"]) <= row["found"]
        assert abs(row["crops"]["x"][0]) < 0.2


def test_the_package_fer_is_asked_in_blue_green_red(tmp_path, monkeypatch):
    package = tmp_path / "fer"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "fer.py").write_text(FER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    image = np.zeros((40, 60, 3), np.uint8)
    image[5, 30, 0] = 200  # red
    [[face]] = read_with_fer(sys.executable, [image])
    assert face.label == "happy"
    np.testing.assert_array_equal(face.box, [30, 5, 40, 25])
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(UserError, match="cannot run fer"):
        read_with_fer(sys.executable, [image])


def test_what_maps_are_worth(small_data_dir):
    builder = datasets.load_builder("synthetic_faces/small", small_data_dir)
    found = explanations.measure_explanations(load_trained("tiny"), builder, "test", 8)
    assert found["n"] == 8
    assert 0 < found["probability"] <= 1
    assert found["falls"]["occlusion"] > found["falls"]["random_pixels"]
    assert -1 <= found["agreement"] <= 1
