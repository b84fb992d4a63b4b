"""faces.analyzer: photographs to emotions, one program, any size, many threads."""

import concurrent.futures
import json
import logging

import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax import faces
from deepfer_jax.exported import ASSETS
from deepfer_jax.faces import analyzer as analyzer_module
from deepfer_jax.faces.analyzer import _CANVASES as CANVASES
from deepfer_jax.faces.analyzer import DETECTORS, Analyzer
from deepfer_jax.faces.crop import Framing, crop_faces
from deepfer_jax.inference import DEFAULT_MODEL, ModelError, Predictor
from tests import photos


@pytest.fixture(scope="module")
def analyzer():
    """The model that ships."""
    return Analyzer()


@pytest.fixture
def smiling():
    return photos.on_canvas(photos.photo("astronaut"), 480 / 512)


def test_the_astronaut_smiles(analyzer, smiling):
    ((face,),) = analyzer.analyze(smiling)
    assert (face.label, face.unsure) == ("happy", False)
    assert face.probabilities.sum() == pytest.approx(1, abs=1e-5)
    left, top, right, bottom = face.box
    assert 230 < left < right < 350
    assert 50 < top < bottom < 180


def test_no_face_is_an_empty_list(analyzer):
    for name in photos.WITHOUT:
        assert analyzer.analyze(photos.photo(name)) == [[]]
    assert analyzer.analyze(np.zeros((0, 480, 640, 3), np.uint8)) == []


def test_the_plain_function_is_the_shipped_model(analyzer, smiling):
    ((expected,),) = analyzer.analyze(smiling)
    ((face,),) = faces.analyze(smiling)
    np.testing.assert_array_equal(face.probabilities, expected.probabilities)
    assert faces.analyze(photos.photo("coffee")) == [[]]


def read_by_hand(analyzer, frame, face):
    """Cut out and classified apart from the analyzer's program."""
    crop = crop_faces(
        jnp.asarray(frame[None]),
        jnp.zeros(1, jnp.int32),
        jnp.asarray(face.box[None]),
        jnp.asarray(face.landmarks[None]),
        Framing(**analyzer.metadata["faces"]["detectors"]["full"]["framing"]),
        jnp.asarray(frame.shape[:2]),
        (48, 48, 1),
    )
    return Predictor().predict(np.asarray(crop))[0]


def test_the_whole_is_the_sum_of_its_parts(analyzer, smiling):
    ((face,),) = analyzer.analyze(smiling)
    expected = read_by_hand(analyzer, smiling, face)
    np.testing.assert_allclose(face.probabilities, expected, atol=1e-3)


def test_a_frame_may_have_any_size_and_says_when_it_compiles(smiling, caplog):
    analyzer = Analyzer()
    with caplog.at_level(logging.INFO):
        ((first,),) = analyzer.analyze(smiling[:470, 5:])
        ((second,),) = analyzer.analyze(smiling[:465, 9:])
    assert caplog.text.count("compiling for") == 1  # the same canvas holds both
    assert "compiling for inputs of 1x480x640x3" in caplog.text
    np.testing.assert_allclose(first.box - second.box, [4, 0, 4, 0], atol=3)


def test_two_hundred_sizes_need_six_programs():
    """And frames of any number, of one size, one."""
    analyzer = Analyzer()
    rng = np.random.default_rng(0)
    for num, longest in ((180, 1920), (20, 3840)):
        for height, width in rng.integers(1, longest + 1, (num, 2)):
            analyzer.analyze(np.zeros((height, width, 3), np.uint8))
    assert len(analyzer._analyze.compiled) <= 6
    analyzer = Analyzer()
    for num in (0, 1, 2, 7, 8, 9, 15, 17):
        assert analyzer.analyze(np.zeros((num, 480, 640, 3), np.uint8)) == [[]] * num
    assert len(analyzer._analyze.compiled) == 1


def check_same(face, expected):
    np.testing.assert_allclose(face.box, expected.box, atol=0.05)
    np.testing.assert_allclose(face.landmarks, expected.landmarks, atol=0.05)
    np.testing.assert_allclose(face.probabilities, expected.probabilities, atol=0.01)
    assert face.score == pytest.approx(expected.score, abs=1e-3)


def test_the_canvas_does_not_matter(analyzer, smiling, monkeypatch):
    """The same picture by every canvas, in an upright one and in a batch."""
    upright = np.ascontiguousarray(smiling[:, 120:480])
    for frame in (smiling, upright):
        ((expected,),) = analyzer.analyze(frame)
        for canvas in CANVASES:
            with monkeypatch.context() as patch:
                patch.setattr("deepfer_jax.faces.analyzer._CANVASES", (canvas,))
                ((face,),) = analyzer.analyze(frame)
            check_same(face, expected)
    ((expected,),) = analyzer.analyze(smiling)
    frames = np.repeat(smiling[None], 9, axis=0)
    frames[3] = 0
    found = analyzer.analyze(frames)
    assert [len(row) for row in found] == [1, 1, 1, 0, 1, 1, 1, 1, 1]
    for row in found:
        for face in row:
            check_same(face, expected)


def test_cameras_have_canvases_of_their_own_and_each_size_the_smallest():
    assert {(480, 640), (720, 1280), (1080, 1920)} <= set(CANVASES)
    assert len(CANVASES) <= 6
    areas = [height * width for height, width in CANVASES]
    assert areas == sorted(areas)
    assert CANVASES[-1] == (3840, 3840)  # the largest frame that may come


def test_a_large_picture_keeps_its_pixels(analyzer):
    """It is read from what came, not from something smaller."""
    face = photos.photo("astronaut")[20:220, 120:320]
    large = photos.on_canvas(face, 9.0, 3840, 2160)
    ((face,),) = analyzer.analyze(large)
    assert 600 < face.box[2] - face.box[0] < 1200
    expected = read_by_hand(analyzer, large, face)
    np.testing.assert_allclose(face.probabilities, expected, atol=1e-3)


def test_an_option_that_jax_does_not_know_is_left_out(smiling, monkeypatch, caplog):
    options = analyzer_module.compiler_options() | {"xla_no_such_option": "1"}
    monkeypatch.setattr(analyzer_module, "compiler_options", lambda: options)
    ((face,),) = Analyzer().analyze(smiling)
    assert face.label == "happy"
    assert "does without the compiler option xla_no_such_option" in caplog.text


def test_as_many_faces_as_there_are(analyzer):
    """Four and six faces in a frame, in a batch with an empty one."""
    face = photos.photo("astronaut")[40:210, 140:310]
    row = np.concatenate([face] * 3, axis=1)
    six = np.concatenate([row, row])
    four = six.copy()
    four[:170, 170:] = 100
    frames = np.stack([six, np.full_like(six, 100), four])
    found = analyzer.analyze(frames)
    assert [len(row) for row in found] == [6, 0, 4]
    assert {face.label for row in found for face in row} == {"happy"}
    scores = [f.score for f in found[0]]
    assert scores == sorted(scores, reverse=True)


def test_colours_are_red_green_blue(analyzer, smiling):
    """The classifier's gray is the luma of RGB: swapped colours give other numbers."""
    # Red light from the left, blue from the right: the swap moves the light.
    light = np.linspace(1.4, 0.1, 120).clip(0, 1)
    lit = smiling.astype(np.float32)
    lit[..., 1] *= 0.3
    lit[:, 230:350, 0] *= light
    lit[:, 230:350, 2] *= light[::-1]
    lit = lit.astype(np.uint8)
    ((face,),) = analyzer.analyze(lit)

    def difference(frame):
        expected = np.log(read_by_hand(analyzer, frame, face))
        return np.abs(expected - np.log(face.probabilities)).max()

    luma = np.rint(lit @ [0.299, 0.587, 0.114]).astype(np.uint8)
    assert difference(np.repeat(luma[..., None], 3, 2)) < 0.04
    assert difference(lit[..., ::-1]) > 0.12


def test_threads_get_the_answers_of_one(analyzer, smiling):
    frames = [np.roll(smiling, shift, axis=1) for shift in range(-40, 40, 10)]
    expected = [analyzer.analyze(frame)[0][0] for frame in frames]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: analyzer.analyze(frames[i % 8]), range(48)))
    for i, ((face,),) in enumerate(found):
        np.testing.assert_array_equal(face.box, expected[i % 8].box)
        np.testing.assert_array_equal(face.probabilities, expected[i % 8].probabilities)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((480, 640), np.uint8), r"expected uint8 .* found uint8 \[480, 640\]"),
        (np.zeros((480, 640, 3), np.float32), "found float32"),
        (np.zeros((480, 640, 4), np.uint8), r"found uint8 \[1, 480, 640, 4\]"),
        (np.zeros((1, 0, 640, 3), np.uint8), "1 to 3840 pixels .* 0 x 640"),
        (np.zeros((1, 8, 4000, 3), np.uint8), "8 x 4000: make them smaller"),
    ],
)
def test_other_arrays_are_refused(analyzer, frames, message):
    with pytest.raises(ModelError, match=message):
        analyzer.analyze(frames)


def test_a_model_of_before_says_what_to_do(tmp_path):
    metadata = json.loads((ASSETS / DEFAULT_MODEL / "metadata.json").read_text())
    metadata["faces"] = {"detector": "short", "max_faces": 16}
    del metadata["sha256"]
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ModelError, match=r"before faces.*--out NEW_MODEL"):
        Analyzer(tmp_path)


def test_the_detector_is_chosen_by_an_argument(smiling):
    small = photos.on_canvas(photos.photo("astronaut"), 0.45)
    found = {}
    for name in DETECTORS:
        analyzer = Analyzer(detector=name)
        found[name] = len(analyzer.analyze(small)[0])
        ((face,),) = analyzer.analyze(smiling)
        assert face.label == "happy"
    assert found == {"auto": 1, "full": 1, "short": 0}
    with pytest.raises(ModelError, match="expected one of auto, short, full, found"):
        Analyzer(detector="long")


def test_running_needs_jax_and_numpy_only(run_python):
    """No Flax, no training library, no Pillow."""
    run_python(
        "-c",
        "import sys\n"
        "for name in ('flax', 'optax', 'orbax', 'tensorflow', 'PIL', 'ml_collections',"
        " 'safetensors', 'clu'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "from deepfer_jax.faces.analyzer import Analyzer\n"
        "assert Analyzer().analyze(np.zeros((240, 320, 3), np.uint8)) == [[]]\n",
    )
