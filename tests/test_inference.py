"""inference: rules for sizes and colours against Pillow; errors; batches."""

import json

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from deepfer_jax import inference
from deepfer_jax.exported import METADATA
from deepfer_jax.inference import ModelError, Predictor, fit_face


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A model whose first probability is the face's mean brightness."""
    folder = tmp_path_factory.mktemp("model")

    def predict(images):
        mean = images.astype(jnp.float32).mean((1, 2, 3)) / 255
        return jnp.stack([mean, 1 - mean], axis=-1)

    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, 48, 48, 1), jnp.uint8)
    program = jax.export.export(jax.jit(predict))(shape)
    (folder / inference.ARTEFACT).write_bytes(program.serialize())
    metadata = {"classes": ["bright", "dark"], "input": {"shape": [48, 48, 1]}}
    (folder / METADATA).write_text(json.dumps(metadata))
    return folder


@pytest.fixture(scope="module")
def predictor(model_folder):
    return Predictor(model_folder)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("side", [13, 24, 47, 96, 100, 333])
def test_resizing_equals_pillow(side):
    face = np.asarray(
        Image.fromarray(noise(9, 9)).resize((side, side), Image.Resampling.BICUBIC)
    )
    expected = Image.fromarray(face).resize((48, 48), Image.Resampling.BILINEAR)
    difference = fit_face(face, (48, 48, 1))[:, :, 0] - np.asarray(expected, int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("shape", [(100, 100), (30, 30), (48, 48)])
def test_colours_are_resized_as_pillow_does(shape):
    small = Image.fromarray(noise(9, 9, 3))
    face = np.asarray(small.resize(shape, Image.Resampling.BICUBIC))
    expected = Image.fromarray(face).resize((48, 48), Image.Resampling.BILINEAR)
    difference = fit_face(face, (48, 48, 3)) - np.asarray(expected, int)
    assert np.abs(difference).max() <= 1


def test_channels_are_padded_and_resized_each_as_if_it_were_gray():
    face = noise(70, 41, 3)
    fitted = fit_face(face, (48, 48, 3))
    for c in range(3):
        alone = fit_face(face[:, :, c], (48, 48, 1))[:, :, 0]
        np.testing.assert_array_equal(fitted[:, :, c], alone)


def test_a_gray_face_gets_three_equal_channels():
    face = noise(20, 30)
    gray = fit_face(face, (48, 48, 1))
    for one in (face, face[:, :, None]):
        fitted = fit_face(one, (48, 48, 3))
        assert fitted.shape == (48, 48, 3)
        np.testing.assert_array_equal(fitted, gray.repeat(3, axis=2))


def test_luma_equals_pillow_and_is_not_of_bgr():
    rgb = noise(48, 48, 3)
    expected = np.asarray(Image.fromarray(rgb).convert("L"), int)
    ours = fit_face(rgb, (48, 48, 1))[:, :, 0].astype(int)
    assert np.abs(ours - expected).max() <= 1
    bgr = fit_face(rgb[:, :, ::-1], (48, 48, 1))[:, :, 0].astype(int)
    assert np.abs(bgr - expected).max() > 20


def test_a_face_that_fits_is_left_alone():
    face = noise(48, 48)
    np.testing.assert_array_equal(fit_face(face, (48, 48, 1))[:, :, 0], face)
    np.testing.assert_array_equal(fit_face(face[:, :, None], (48, 48, 1))[..., 0], face)


def test_not_square_is_filled_with_its_edges():
    face = np.zeros((48, 24), np.uint8)
    face[:, 0], face[:, -1] = 100, 200
    fitted = fit_face(face, (48, 48, 1))[:, :, 0]
    assert (fitted[:, :13] == 100).all()
    assert (fitted[:, -13:] == 200).all()
    np.testing.assert_array_equal(fitted[:, 12:36], face)


def test_any_number_of_any_sizes(predictor):
    faces = [noise(48, 48), noise(60, 50, 3), noise(10, 10, 1)]
    probabilities = predictor.predict(faces)
    assert probabilities.shape == (3, 2)
    assert probabilities.dtype == np.float32
    for face, row in zip(faces, probabilities, strict=True):
        expected = fit_face(face, (48, 48, 1)).mean() / 255
        np.testing.assert_allclose(row, [expected, 1 - expected], rtol=1e-5)
    assert predictor.predict([]).shape == (0, 2)


def test_one_picture_is_one_face(predictor):
    gray, colour = noise(96, 96), noise(96, 90, 3)
    for face in (gray, gray[..., None], colour):
        one = predictor.predict(face)
        assert one.shape == (1, 2)
        np.testing.assert_array_equal(one, predictor.predict([face]))
        np.testing.assert_array_equal(one, predictor.predict(face[None]))
    assert len(predictor.classify(colour)) == 1
    assert predictor.predict(noise(5, 48, 48)).shape == (5, 2)
    for shape in ((3, 48, 3), (48, 3, 3), (1, 48, 1)):
        with pytest.raises(ModelError, match=r"ambiguous: write \[1, H, W, 3\]"):
            predictor.predict(noise(*shape))


def test_an_iterable_is_consumed_in_parts(predictor):
    alive, most = [0], [0]

    class Face(np.ndarray):
        def __array_finalize__(self, _):
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self):
            alive[0] -= 1

    def faces():
        for i in range(1000):
            yield np.full((48, 48), i % 256, np.uint8).view(Face)

    assert predictor.predict(faces()).shape == (1000, 2)
    assert most[0] < 700  # of a thousand, some parts and views of 256


@pytest.mark.parametrize("num", [1, 2, 3, 255, 256, 257, 600])
def test_batches_are_filled_up_and_cut(predictor, num):
    faces = noise(num, 48, 48, 1)
    expected = faces.reshape(num, -1).mean(1) / 255
    np.testing.assert_allclose(predictor.predict(faces)[:, 0], expected, rtol=1e-5)


def test_few_batch_sizes_are_compiled(model_folder):
    predictor = Predictor(model_folder)
    for num in (1, 3, 4, 200, 256, 300, 1000):
        predictor.predict(noise(num, 48, 48))
    assert len(predictor._call.compiled) <= 9


@pytest.mark.parametrize(
    ("face", "message"),
    [
        (np.zeros((48, 48)), "expected uint8 in 0..255, found float64"),
        (np.zeros((48, 48, 4), np.uint8), r"found \(48, 48, 4\)"),
        (np.zeros((0, 48), np.uint8), r"found \(0, 48\)"),
        (np.zeros(48, np.uint8), r"found \(48,\)"),
    ],
)
def test_other_arrays_are_refused(predictor, face, message):
    with pytest.raises(ModelError, match=message):
        predictor.predict([face])


def test_a_float_batch_of_the_right_shape_is_refused(predictor):
    with pytest.raises(ModelError, match="found float32"):
        predictor.predict(np.zeros((2, 48, 48, 1), np.float32))


def test_missing_and_unreadable_models_say_what_to_do(model_folder, tmp_path):
    with pytest.raises(ModelError, match=r"metadata.json is missing.*scripts/export"):
        Predictor(tmp_path)
    (tmp_path / METADATA).write_text(
        json.dumps({"classes": [], "input": {"shape": []}, "versions": {"jax": "9.9"}})
    )
    with pytest.raises(ModelError, match=r"model.jax_export is missing"):
        Predictor(tmp_path)
    (tmp_path / inference.ARTEFACT).write_bytes(b"\x00" * 64)
    with pytest.raises(ModelError, match=r"(?s)with jax 9.9 .*export.py --model"):
        Predictor(tmp_path)
