"""TFLite files, run by LiteRT, give what jax gives, or are not written."""

import json

import numpy as np
import pytest

from deepfer_jax import portable, tflite_export
from deepfer_jax.errors import UserError
from deepfer_jax.exported import ModelError
from deepfer_jax.faces.detector import load_detector
from deepfer_jax.inference import Predictor

pytest.importorskip("tensorflow")
interpreter = pytest.importorskip("ai_edge_litert.interpreter")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_python):
    out = tmp_path_factory.mktemp("tflite")
    command = ("-m", "deepfer_jax", "export", "--model", "tiny", "--tflite", out)
    result = run_python(*command, fresh=True)
    assert result.stdout == f"222,743 parameters exported to {out}\n"
    return out


def open_file(path):
    return interpreter.Interpreter(str(path)).get_signature_runner()


def test_the_classifier_is_the_predictor(folder):
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (5, 48, 48, 1)).astype(np.uint8)
    crops[0] //= 80  # dark
    call = open_file(folder / "classifier.tflite")
    for crop, expected in zip(crops, Predictor("tiny").classify(crops), strict=True):
        found = call(crops=crop[None])
        np.testing.assert_allclose(
            found["probabilities"], expected.probabilities[None], atol=1e-5
        )
        quality = 1 - found["strengths"].max()
        assert quality == pytest.approx(expected.quality, abs=1e-4)


@pytest.mark.parametrize("name", ["short", "full"])
def test_a_detector_gives_its_networks_outputs(folder, name):
    model, variables = load_detector(name)[1:]
    shape = (1, model.size, model.size, 3)
    images = np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)
    found = open_file(folder / f"{name}.tflite")(images=images)
    boxes, logits = model.network.apply(variables, images / 127.5 - 1)
    np.testing.assert_allclose(found["boxes"], boxes, atol=1e-2)  # pixels
    np.testing.assert_allclose(found["logits"], logits, atol=1e-3)


def test_the_metadata_says_how_they_belong_together(folder):
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["classes"] == list(Predictor("tiny").classes)
    files = {about["file"] for about in metadata["faces"]["detectors"].values()}
    files.add("classifier.tflite")
    assert files == metadata["sha256"].keys()
    assert {path.name for path in folder.iterdir()} == files | {"metadata.json"}


def test_a_file_that_answers_something_else_is_not_written(tmp_path, monkeypatch):
    create = portable.create_networks

    def create_others(variables, metadata):
        network = create(variables, metadata)[portable.CLASSIFIER]

        def shift(images):
            probabilities, strengths = network.function(images)
            return probabilities + 2e-4, strengths

        return {portable.CLASSIFIER: network._replace(function=shift)}

    monkeypatch.setattr(portable, "create_networks", create_others)
    with pytest.raises(UserError, match=r"classifier\.tflite: its probabilities"):
        tflite_export.export_tflite("tiny", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_such_model_is_said(tmp_path):
    with pytest.raises((UserError, ModelError), match="nowhere"):
        tflite_export.export_tflite("nowhere", tmp_path)
