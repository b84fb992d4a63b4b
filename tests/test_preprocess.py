"""preprocess: by hand, and a face in any light gives the same input."""

import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.preprocess import make_normalize, to_unit


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_by_channel():
    images = noise(2, 5, 6, 3)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    found = make_normalize("dataset", mean, std)(to_unit(jnp.asarray(images)))
    for c in range(3):
        expected = (images[..., c] / 255 - mean[c]) / std[c]
        np.testing.assert_allclose(found[..., c], expected, atol=1e-6)


def test_by_face():
    images = noise(4, 8, 8, 1) / 255
    normalize = make_normalize("face", (0.5,), (0.25,))
    found = np.asarray(normalize(jnp.asarray(images)))
    np.testing.assert_allclose(found.mean((1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(found.std((1, 2, 3)), 1, atol=2e-3)
    # Half the light, or half the contrast, is the same face.
    for other in (images * 0.5, images * 0.5 + 0.25):
        np.testing.assert_allclose(normalize(jnp.asarray(other)), found, atol=2e-2)
    # A face alone, and one colour, which must not divide by zero.
    np.testing.assert_allclose(normalize(jnp.asarray(images[2])), found[2], atol=1e-6)
    assert not np.asarray(normalize(jnp.full((1, 8, 8, 1), 0.3))).any()


def test_unknown():
    with pytest.raises(ValueError, match="'dataset', 'face'"):
        make_normalize("batch", (0.5,), (0.25,))
