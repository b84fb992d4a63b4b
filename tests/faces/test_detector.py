"""faces: BlazeFace beside LiteRT, boxes and suppression by hand, faces in photos."""

import importlib.util
import os
import pathlib

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from measuring.recall import measure_beside_litert
from PIL import Image

from deepfer_jax.errors import UserError
from deepfer_jax.faces.boxes import overlap
from deepfer_jax.faces.detector import (
    decode,
    letter_box,
    load_detector,
    make_detect,
    suppress,
)
from deepfer_jax.models.blazeface import BLAZEFACES
from deepfer_jax.pretrained import blazeface, port
from deepfer_jax.pretrained.tensors import read_ported
from tests import photos

ASSETS = pathlib.Path(blazeface.__file__).parents[1] / "assets"


@pytest.fixture(scope="module", params=["short", "full"])
def detect(request):
    """(name, detect) with its own compiled program for each size of frames."""
    return request.param, jax.jit(make_detect(load_detector(request.param)))


def find(detect, frame):
    """Boxes, scores and landmarks of one frame's faces."""
    found = jax.device_get(detect(frame[None], np.array(frame.shape[:2])))
    mask = found.mask[0]
    return found.boxes[0][mask], found.scores[0][mask], found.landmarks[0][mask]


def assert_on(box, expected):
    """Half of the two boxes' union is common to both."""
    both = overlap(np.asarray(box, float), np.asarray(expected, float))
    assert both > 0.5, (box, expected)


def tflite_file(name):
    """The file of the npm package, where $BLAZEFACE_FOLDER names its folder."""
    folder = os.environ.get("BLAZEFACE_FOLDER")
    if not folder or importlib.util.find_spec("ai_edge_litert") is None:
        pytest.skip("needs ai-edge-litert, and BLAZEFACE_FOLDER with the .tflite files")
    path = pathlib.Path(folder) / f"face_detection_{name}_range.tflite"
    if not path.exists():
        pytest.skip(f"{path} is missing: npm could not get it")
    return path


@pytest.mark.parametrize("name", ["short", "full"])
def test_parity_with_litert(name, tmp_path):
    path = tflite_file(name)
    from ai_edge_litert.interpreter import Interpreter

    detector = load_detector(name)
    size = detector.model.size
    face = Image.fromarray(photos.photo("astronaut")).crop((100, 20, 356, 276))
    image = np.asarray(face.resize((size, size)), np.float32)[None] / 127.5 - 1
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    expected = {
        output["shape"][-1]: interpreter.get_tensor(output["index"])
        for output in interpreter.get_output_details()
    }
    boxes, logits = jax.jit(detector.model.network.apply)(detector.variables, image)
    scores = jax.nn.sigmoid(logits)
    assert scores.max() > 0.8
    difference = scores - jax.nn.sigmoid(expected[1][..., 0])
    assert np.abs(difference).max() < 1e-3
    assert np.abs(boxes - expected[16]).max() < 0.5  # pixels of the network

    times = measure_beside_litert(name, path)
    assert 0.05 < times["ratio"] < 50
    (tmp_path / "no.tflite").write_bytes(b"no network")
    with pytest.raises(UserError, match=r"no\.tflite: "):
        measure_beside_litert(name, tmp_path / "no.tflite")

    port.port("blazeface", path, tmp_path / "again.safetensors")
    again, metadata = read_ported(tmp_path / "again.safetensors")
    assert metadata["licence"] == "Apache-2.0"
    jax.tree.map(np.testing.assert_array_equal, again, detector.variables)


def test_what_ships_says_where_it_is_from():
    for name in BLAZEFACES:
        _, metadata = read_ported(ASSETS / f"blazeface_{name}" / "params.safetensors")
        assert metadata["source"] == "blazeface"
        assert metadata["licence"] == "Apache-2.0"
        assert "Apache" in (ASSETS / f"blazeface_{name}" / "NOTICE").read_text()


@pytest.mark.parametrize("content", [b"", b"TFL3 no", bytes(1000)])
def test_other_files_are_refused(tmp_path, content):
    pytest.importorskip("tflite")
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.tflite: (not a whole|0 convolutions)"):
        port.port("blazeface", path, tmp_path / "out")


def test_unknown_detectors_are_named():
    with pytest.raises(UserError, match="expected one of short, full, found 'big'"):
        load_detector("big")


def test_anchors_are_mediapipes():
    short, full = BLAZEFACES["short"].anchors(), BLAZEFACES["full"].anchors()
    assert short.shape == (896, 2)
    assert full.shape == (2304, 2)
    np.testing.assert_allclose(
        short[:3], [[1 / 32] * 2, [1 / 32] * 2, [3 / 32, 1 / 32]]
    )
    np.testing.assert_allclose(short[512:519], [*[[1 / 16] * 2] * 6, [3 / 16, 1 / 16]])
    np.testing.assert_allclose(full[-1], [1 - 1 / 96] * 2)


def test_decoding_by_hand():
    raw = jnp.asarray([[12.8, -6.4, 25.6, 12.8, 1.28, 2.56, *[0.0] * 10]])
    points = decode(raw, jnp.asarray([[0.5, 0.25]]), 128)[0]
    np.testing.assert_allclose(points[0], [0.5, 0.15], atol=1e-6)
    np.testing.assert_allclose(points[1], [0.7, 0.25], atol=1e-6)
    np.testing.assert_allclose(points[2], [0.51, 0.27], atol=1e-6)
    np.testing.assert_allclose(points[3:], [[0.5, 0.25]] * 5, atol=1e-6)


def test_suppression_by_hand():
    """Two boxes that overlap become their weighted mean; a third stays; a weak goes."""
    corners = jnp.asarray(
        [
            [[0, 0], [10, 10]],
            [[2, 0], [12, 10]],
            [[40, 40], [50, 50]],
            [[0, 0], [9, 9]],
        ],
        jnp.float32,
    )
    points = jnp.concatenate([corners, jnp.repeat(corners[:, :1], 6, 1)], 1)[None]
    scores = jnp.asarray([[0.9, 0.6, 0.8, 0.3]])
    found = suppress(points, scores, max_faces=3, min_score=0.5)
    assert found.mask.tolist() == [[True, True, False]]
    np.testing.assert_allclose(found.scores, [[0.9, 0.8, 0]], atol=1e-6)
    np.testing.assert_allclose(found.boxes[0, 0], [0.8, 0, 10.8, 10], atol=1e-5)
    np.testing.assert_allclose(found.boxes[0, 1], [40, 40, 50, 50], atol=1e-5)
    np.testing.assert_allclose(found.landmarks[0, 0], [[0.8, 0]] * 6, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (60, 50)])
def test_letter_box_beside_pillow(height, width):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8))
    picture = small.resize((width, height), Image.Resampling.BICUBIC)
    padded = np.full((1, height + 30, width + 20, 3), 255, np.uint8)
    padded[0, :height, :width] = np.asarray(picture)
    images, scale, corner = jax.jit(letter_box, static_argnums=2)(
        padded, np.array([height, width]), 128
    )
    factor = 128 / max(height, width)
    inner = (round(width * factor), round(height * factor))
    expected = Image.new("RGB", (128, 128))
    place = ((128 - inner[0]) // 2, (128 - inner[1]) // 2)
    expected.paste(picture.resize(inner, Image.Resampling.BILINEAR), place)
    difference = np.abs(images[0] - np.asarray(expected, np.float32))
    assert difference.mean() < 4
    # A corner of the picture comes back.
    np.testing.assert_allclose((np.array(place) - corner) * scale, 0, atol=scale)


@pytest.mark.parametrize("name", photos.WITH_A_FACE)
def test_faces_in_photos_are_found(detect, name):
    boxes, scores, landmarks = find(detect[1], photos.photo(name))
    assert len(boxes) == 1
    assert scores[0] > 0.7
    assert_on(boxes[0], photos.FACES[name])
    left, right = landmarks[0][:2]
    assert left[0] < right[0]


@pytest.mark.parametrize("name", photos.WITHOUT)
def test_no_face_is_no_face(detect, name):
    boxes, _, _ = find(detect[1], photos.photo(name))
    assert len(boxes) == 0


@pytest.mark.parametrize("degrees", [-30, -15, 15, 30])
def test_tilted_faces_are_found_with_their_eyes(detect, degrees):
    image = photos.photo("astronaut")[:300, 75:375]
    boxes, _, landmarks = find(detect[1], photos.tilted(image, degrees))
    assert len(boxes) == 1
    across = landmarks[0][1] - landmarks[0][0]
    angle = -np.rad2deg(np.arctan2(across[1], across[0]))
    assert angle == pytest.approx(degrees - 5, abs=12)  # her own eyes fall by 5 to 9


def test_dark_faces_are_found(detect):
    for name in ("astronaut", "grace_hopper"):
        boxes, _, _ = find(detect[1], photos.darkened(photos.photo(name), 0.25))
        assert len(boxes) == 1
        assert_on(boxes[0], photos.FACES[name])


def test_small_faces_are_found(detect):
    """In 640x480 `short` finds faces of 100 pixels, `full` of 40."""
    name, find_in = detect
    frame = photos.on_canvas(
        photos.photo("grace_hopper"), (100 if name == "short" else 40) / 210
    )
    boxes, _, _ = find(find_in, frame)
    assert len(boxes) == 1


def test_faces_cut_by_the_edge_are_found(detect):
    frame = photos.photo("grace_hopper")[:, 215:]  # a quarter of the face is outside
    boxes, _, _ = find(detect[1], frame)
    assert len(boxes) == 1
    assert boxes[0][0] < 20


def test_frames_of_a_batch_do_not_mix(detect):
    face = photos.on_canvas(photos.photo("astronaut"), 0.9)
    frames = np.stack([np.zeros_like(face), face, face[:, ::-1]])
    found = jax.device_get(detect[1](frames, np.array([480, 640])))
    assert found.mask.sum(1).tolist() == [0, 1, 1]
    alone = jax.device_get(detect[1](face[None], np.array([480, 640])))
    np.testing.assert_allclose(found.boxes[1, 0], alone.boxes[0, 0], atol=0.5)
    mirrored = 640 - found.boxes[2, 0][[2, 0]]
    assert np.abs(mirrored - found.boxes[1, 0][[0, 2]]).max() < 15


def test_one_program_with_its_weights_is_exported_for_every_size(detect):
    name, find_in = detect
    sizes = jax.export.symbolic_shape("n, h, w, 3")
    plain = make_detect(load_detector(name))
    program = jax.export.export(
        jax.jit(lambda *arguments: tuple(plain(*arguments))),
        platforms=("cpu", "cuda", "tpu"),
    )(jax.ShapeDtypeStruct(sizes, jnp.uint8), jax.ShapeDtypeStruct((2,), jnp.int32))
    again = jax.export.deserialize(program.serialize())
    frame, size = photos.on_canvas(photos.photo("grace_hopper"), 0.7), (480, 640)
    expected = find_in(frame[None], np.array(size, np.int32))
    assert expected.mask.sum() == 1
    # In a larger frame too, whatever is outside of its true size.
    padded = np.pad(frame, ((0, 60), (0, 20), (0, 0)), constant_values=255)
    for frames in (frame[None], padded[None]):
        found = jax.jit(again.call)(frames, np.array(size, np.int32))
        np.testing.assert_array_equal(found[3], expected.mask)
        np.testing.assert_allclose(found[1], expected.scores, atol=1e-3)
        np.testing.assert_allclose(found[0][0, 0], expected.boxes[0, 0], atol=0.1)
