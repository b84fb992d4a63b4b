"""ONNX files, run by ONNX Runtime, give what jax gives."""

import json

import numpy as np
import pytest

from deepfer_jax import onnx_export, portable
from deepfer_jax.errors import UserError
from deepfer_jax.exported import ModelError
from deepfer_jax.faces.detector import load_detector
from deepfer_jax.inference import Predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_python):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("onnx")
    command = ("-m", "deepfer_jax", "export", "--model", "tiny", "--onnx", out)
    result = run_python(*command, fresh=True)
    assert result.stdout == f"222,743 parameters exported to {out}\n"
    return out


def run(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    (described,) = session.get_inputs()
    return session.run(None, {described.name: images})


@pytest.mark.parametrize("num", [1, 5])
def test_the_classifier_is_the_predictor(folder, num):
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (num, 48, 48, 1)).astype(np.uint8)
    crops[0] //= 80  # dark
    probabilities, strengths = run(folder / "classifier.onnx", crops)
    expected = Predictor("tiny").classify(crops)
    for i, one in enumerate(expected):
        np.testing.assert_allclose(probabilities[i], one.probabilities, atol=1e-4)
        assert 1 - strengths[i].max() == pytest.approx(one.quality, abs=1e-4)


@pytest.mark.parametrize("name", ["short", "full"])
def test_a_detector_gives_its_networks_outputs(folder, name):
    model, variables = load_detector(name)[1:]
    shape = (1, model.size, model.size, 3)
    images = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    boxes, logits = run(folder / f"{name}.onnx", images)
    expected = model.network.apply(variables, images / 127.5 - 1)
    np.testing.assert_allclose(boxes, expected[0], atol=1e-2)  # pixels of the network's
    np.testing.assert_allclose(logits, expected[1], atol=1e-3)


def test_the_metadata_says_how_they_belong_together(folder):
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["classes"] == list(Predictor("tiny").classes)
    short = metadata["faces"]["detectors"]["short"]
    assert short["size"] == 128
    assert short["levels"] == [[8, 2], [16, 6]]
    assert (folder / short["file"]).exists()
    assert metadata["faces"]["causes"][:4] == metadata["causes"]


@pytest.mark.parametrize("wrong", [0.02, np.nan])
def test_a_file_that_answers_something_else_is_refused(wrong):
    network = portable.create_detector("short")

    def run(images):
        boxes, logits = network.function(images)
        return boxes + wrong, logits

    with pytest.raises(UserError, match=r"short\.onnx: its boxes differ .* by "):
        portable.check(network, run, "short.onnx")


def test_no_such_model_is_said(tmp_path):
    with pytest.raises((UserError, ModelError), match="nowhere"):
        onnx_export.export_onnx("nowhere", tmp_path)


@pytest.mark.parametrize("option", ["--onnx", "--tflite"])
def test_a_run_must_be_exported_first(run_python, tmp_path, option):
    command = ("-m", "deepfer_jax", "export", "--workdir", "runs/a", option, tmp_path)
    result = run_python(*command, check=False)
    assert result.returncode == 2
    assert f"{option} takes --model alone" in result.stderr
