"""The model that ships: whole, small, calibrated, and as good as its results say."""

import concurrent.futures
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.fer2013 import CsvSource
from deepfer_jax.data.synthetic.builder import draw_face
from deepfer_jax.evaluation.model_card import model_card
from deepfer_jax.inference import Predictor
from tests import photos

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "results" / "fer2013_tiny"
# Taught on FER+.
SHIPS = ("tiny", "small")
UNPACK = ROOT.parent / "shared" / "data" / "fer2013" / "unpack.py"


@pytest.fixture(scope="module")
def predictor():
    return Predictor()


def test_it_is_small_and_calibrated(predictor):
    assert sum(path.stat().st_size for path in predictor.folder.iterdir()) < 4e6
    calibration = predictor.metadata["calibration"]
    assert calibration["ece_after"] <= 0.02
    assert calibration["coverage"] > 0.8
    assert predictor.classes == EMOTIONS


def test_threads_get_the_answers_of_one(predictor):
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (n, 48, 48)).astype(np.uint8) for n in (1, 3, 8)]
    expected = [predictor.predict(batch) for batch in batches]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: predictor.predict(batches[i % 3]), range(96)))
    for i, probabilities in enumerate(found):
        np.testing.assert_array_equal(probabilities, expected[i % 3])


def test_predict_needs_no_model_of_ones_own(run_python, tmp_path):
    face = draw_face(np.random.default_rng(0), "happy")
    Image.fromarray(face).resize((200, 200)).save(tmp_path / "face.png")
    command = ("scripts/predict.py", "--face", tmp_path / "face.png")
    line = json.loads(run_python(*command).stdout)
    assert line["label"] in EMOTIONS
    assert line["unsure"] in (True, False)


def test_predict_finds_faces_in_photos_and_draws_them(run_python, tmp_path):
    """A photo made large too: boxes are in its own pixels."""
    astronaut = Image.fromarray(photos.photo("astronaut"))
    folder, out = tmp_path / "photos", tmp_path / "annotated"
    folder.mkdir()
    astronaut.save(folder / "a.png")
    astronaut.resize((2560, 2560)).save(folder / "b.png")
    Image.fromarray(photos.photo("coffee")).save(folder / "c.jpg")
    (folder / "d.png").write_bytes(b"no image")
    (folder / "sub").mkdir()
    Image.fromarray(photos.photo("rocket")).save(folder / "sub" / "a.jpg")
    result = run_python("scripts/predict.py", folder, "--out", out, check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    small, large, none, bad, _ = map(json.loads, result.stdout.splitlines())
    assert small["faces"][0]["label"] == large["faces"][0]["label"] == "happy"
    difference = np.array(large["faces"][0]["box"]) / 5 - small["faces"][0]["box"]
    assert np.abs(difference).max() < 5
    assert none["faces"] == []
    assert "not a whole image" in bad["error"]
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert names == ["a.png.jpg", "b.png.jpg", "c.jpg", "sub/a.jpg"]
    drawn = np.asarray(Image.open(out / "a.png.jpg"), float)
    changed = np.abs(drawn - np.asarray(astronaut)).max(-1) > 60
    assert 0.03 < changed[20:220, 130:330].mean() < 0.3  # a box and its tag
    assert changed[300:].mean() < 0.01


@pytest.mark.parametrize(
    ("model", "results", "card"),
    [
        ("tiny", "ferplus_tiny", "MODEL_CARD.md"),
        ("small", "ferplus_small", "results/ferplus_small/MODEL_CARD.md"),
        ("fer2013_tiny", "fer2013_tiny", "results/fer2013_tiny/MODEL_CARD.md"),
    ],
)
def test_the_model_cards_say_what_the_files_say(model, results, card):
    text = (ROOT / card).read_text()
    assert text == model_card(model, ROOT / "results" / results)
    assert ("taught 7 classes by runs/ferplus_teacher" in text) == (model in SHIPS)
    assert ("Barsoum" in text) == (model in SHIPS)


@pytest.mark.skipif(not UNPACK.exists(), reason="the real faces are not here")
def test_it_is_as_good_as_its_results_say(tmp_path):
    predictor = Predictor("fer2013_tiny")
    subprocess.run([sys.executable, UNPACK, tmp_path], check=True, capture_output=True)
    faces = list(CsvSource(tmp_path / "fer2013.csv").faces("PublicTest"))
    labels = np.array([EMOTIONS.index(face.label) for face in faces])
    predicted = predictor.predict(np.array([face.image for face in faces]))
    kept = json.loads((RESULTS / "fer2013_public_test_none.json").read_text())
    accuracy = (predicted.argmax(1) == labels).mean()
    assert accuracy == pytest.approx(kept["accuracy"], abs=1e-3)
    assert accuracy > 0.66
