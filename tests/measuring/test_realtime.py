"""benchmark_realtime: the keys of its document, and the faces of its frames."""

import json
import os
import sys

import pytest

pytest.importorskip("skimage")

from measuring.realtime import (
    benchmark_realtime,
    make_frame,
    measure_fer,
    measure_start_up,
)

from deepfer_jax.errors import UserError
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.inference import DEFAULT_MODEL

PARTS = ("whole", "detector", "crop", "classifier")


def test_the_document(tmp_path, monkeypatch):
    monkeypatch.setattr("measuring.realtime._NUM_STARTS", 1)
    document = benchmark_realtime(DEFAULT_MODEL, [1], tmp_path, num_calls=3)
    json.dumps(document)
    assert [run["faces"] for run in document["runs"]] == [1, 4, 16]
    assert [run["found"] for run in document["runs"]] == [1, 4, 16]
    for part in PARTS:
        assert document[part] == document["runs"][0][part]
        assert 0 < document[part]["p50_ms"] <= document[part]["p95_ms"]
    assert document["whole"]["p50_ms"] > document["classifier"]["p50_ms"]
    assert document["video"]["frames_per_second"] > 1
    first, second = (document["start_up"][name] for name in ("first", "second"))
    parts = ("python_s", "import_s", "load_s", "first_answer_s")
    for times in (first, second):
        assert times["total_s"] == pytest.approx(sum(times[x] for x in parts), abs=0.2)
        assert all(times[x] > 0 for x in parts)


def test_more_cores_than_there_are_are_left_out(tmp_path):
    too_many = len(os.sched_getaffinity(0)) + 1
    with pytest.raises(UserError, match="--cores: expected numbers from 1"):
        benchmark_realtime(DEFAULT_MODEL, [0, too_many], tmp_path)


@pytest.mark.parametrize("num", [1, 4, 16])
def test_frames_have_their_faces(num):
    frame = make_frame(num)
    assert frame.shape == (480, 640, 3)
    assert len(Analyzer().analyze(frame)[0]) == num


FER = """
class FER:
    def detect_emotions(self, frame):
        assert frame.flags.c_contiguous
        red, blue = frame[..., 2].mean(), frame[..., 0].mean()
        return [{}] * 3 if red > blue else []
"""


@pytest.fixture
def fer(tmp_path, monkeypatch):
    """A package of its name in its place: frames come as OpenCV has them."""
    package = tmp_path / "fer"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "fer.py").write_text(FER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))


@pytest.mark.usefixtures("fer")
def test_fer_is_measured_on_the_same_frames(tmp_path):
    processors = sorted(os.sched_getaffinity(0))[:1]
    found = measure_fer(sys.executable, processors, tmp_path, 3)
    assert [run["faces"] for run in found["runs"]] == [1, 4, 16]
    assert [run["found"] for run in found["runs"]] == [3, 3, 3]
    assert 0 < found["runs"][0]["whole"]["p50_ms"] < 1000


@pytest.mark.usefixtures("fer")
def test_fer_is_started_as_often(tmp_path, monkeypatch):
    monkeypatch.setattr("measuring.realtime._NUM_STARTS", 1)
    found = measure_start_up(DEFAULT_MODEL, tmp_path, sys.executable)
    assert list(found) == ["first", "second", "fer"]
    assert found["fer"].keys() == found["first"].keys()
    assert found["fer"]["total_s"] < found["first"]["total_s"]


@pytest.mark.parametrize("python", [sys.executable, "no-such-python"])
def test_without_fer_it_says_how_to_install_it(tmp_path, python):
    with pytest.raises(UserError, match=r"cannot run fer .*\): pip install fer"):
        measure_fer(python, [0], tmp_path, 3)
