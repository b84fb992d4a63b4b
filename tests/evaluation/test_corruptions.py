"""corruptions: each against another library or by hand, and milder before harder."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from deepfer_jax.data.synthetic.builder import draw_face
from deepfer_jax.evaluation import corruptions
from deepfer_jax.evaluation.corruptions import CORRUPTIONS, make_corrupt

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(0)
    return np.array([draw_face(rng, "happy") for _ in range(6)])[..., None]


def corrupted(name, severity, faces):
    keys = jax.random.split(KEY, len(faces))
    return np.asarray(make_corrupt(name, severity)(keys, faces))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_harder_severities_change_more(name, faces):
    changes = []
    for severity in corruptions.SEVERITIES:
        result = corrupted(name, severity, faces)
        assert result.dtype == np.uint8
        assert result.shape == faces.shape
        changes.append(np.abs(result.astype(float) - faces).mean())
    assert changes[0] > 0
    assert changes == sorted(changes)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_size_and_colour(name):
    faces = np.random.default_rng(0).integers(0, 256, (2, 70, 70, 3), np.uint8)
    assert corrupted(name, 5, faces).shape == faces.shape


@pytest.mark.parametrize("quality", [5, 18, 50, 80])
def test_jpeg_equals_pillow(faces, quality):
    for face in faces:
        buffer = io.BytesIO()
        Image.fromarray(face[..., 0]).save(buffer, "jpeg", quality=quality)
        expected = np.asarray(Image.open(buffer)).astype(float)
        image = jnp.asarray(face) / 255.0
        ours = np.rint(255 * np.clip(corruptions.jpeg(KEY, image, quality), 0, 1))
        # libjpeg works in whole numbers: some coefficients fall on the other side.
        assert np.abs(ours[..., 0] - expected).mean() < 0.5
        assert np.abs(ours[..., 0] - face[..., 0]).mean() > 0.5


def test_blur_equals_scipy(faces):
    image = faces[0, ..., 0] / 255.0
    ours = corruptions.blur(KEY, jnp.asarray(image)[..., None], 2.0)[..., 0]
    expected = scipy.ndimage.gaussian_filter(image, 2.0, mode="nearest", radius=6)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_rotation_equals_scipy_to_one_side_or_the_other(faces):
    image = faces[0, ..., 0] / 255.0
    ours = corruptions.rotation(KEY, jnp.asarray(image)[..., None], 20.0)[..., 0]
    sides = [
        scipy.ndimage.rotate(image, angle, reshape=False, order=1, mode="nearest")
        for angle in (20, -20)
    ]
    assert min(np.abs(ours - side).max() for side in sides) < 1e-3


def test_motion_blur_is_the_mean_along_a_line():
    image = np.zeros((48, 48, 1), np.float32)
    image[24, 24] = 1
    blurred = np.asarray(corruptions.motion_blur(KEY, jnp.asarray(image), 11))[..., 0]
    assert blurred.sum() == pytest.approx(1, abs=1e-4)
    rows, columns = np.nonzero(blurred > 1e-3)
    spread = np.linalg.svd(np.stack([rows - 24, columns - 24]), compute_uv=False)
    assert spread[0] > 5 * spread[1]  # long and thin
    assert np.hypot(rows - 24, columns - 24).max() == pytest.approx(5.5, abs=1.5)


def test_shift_moves_by_the_fraction(faces):
    ramp = np.broadcast_to(np.arange(48.0)[:, None, None], (48, 48, 1))
    both = np.concatenate([ramp, ramp.transpose(1, 0, 2)], axis=2)
    moved = np.asarray(corruptions.shift(KEY, jnp.asarray(both), 0.1))
    offset = (moved - both)[24, 24]
    assert np.hypot(*offset) == pytest.approx(4.8, abs=1e-3)


def test_light_by_hand():
    image = jnp.array([0.2, 0.8]).reshape(1, 2, 1)
    assert corruptions.dark(KEY, image, 0.5).ravel() == pytest.approx([0.1, 0.4])
    assert corruptions.bright(KEY, image, 2).ravel() == pytest.approx([0.4, 1.6])
    low = corruptions.low_contrast(KEY, image, 0.5).ravel()
    assert low == pytest.approx([0.35, 0.65])


def test_noise_has_its_deviation():
    image = jnp.full((96, 96, 1), 0.5)
    noisy = np.asarray(corruptions.noise(KEY, image, 0.1))
    assert noisy.std() == pytest.approx(0.1, rel=0.05)


def test_covers_hide_eyes_or_mouth_alone(faces):
    eyes = corrupted("covered_eyes", 3, faces)
    mouth = corrupted("covered_mouth", 3, faces)
    assert (eyes[:, 14:23, 10:38] == 20).all()
    np.testing.assert_array_equal(eyes[:, 28:], faces[:, 28:])
    assert (mouth[:, 34:41, 10:38] == 217).all()
    np.testing.assert_array_equal(mouth[:, :30], faces[:, :30])
