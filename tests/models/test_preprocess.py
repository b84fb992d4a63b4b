"""preprocess: by hand, against Pillow, and a face in any light gives the same input."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import default
from deepfer_jax.models.preprocess import input_shape, make_preprocess, to_unit


def make(**fields):
    model = default.get_config().model
    model.update(fields)
    return model


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_by_channel():
    images = noise(2, 5, 6, 3)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    found = make_preprocess(make(mean=mean, std=std))(to_unit(jnp.asarray(images)))
    for c in range(3):
        expected = (images[..., c] / 255 - mean[c]) / std[c]
        np.testing.assert_allclose(found[..., c], expected, atol=1e-6)


def test_by_face():
    images = noise(4, 8, 8, 1) / 255
    preprocess = make_preprocess(make(normalization="face"))
    found = np.asarray(preprocess(jnp.asarray(images)))
    np.testing.assert_allclose(found.mean((1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(found.std((1, 2, 3)), 1, atol=2e-3)
    # Half the light, or half the contrast, is the same face.
    for other in (images * 0.5, images * 0.5 + 0.25):
        np.testing.assert_allclose(preprocess(jnp.asarray(other)), found, atol=2e-2)
    # A face alone, and one colour, which must not divide by zero.
    alone = preprocess(jnp.asarray(images[2:3]))
    np.testing.assert_allclose(alone[0], found[2], atol=1e-6)
    np.testing.assert_allclose(preprocess(jnp.full((1, 8, 8, 1), 0.3)), 0, atol=1e-4)


def test_size_and_channels():
    images = noise(2, 48, 48, 1)
    model = make(input_size=112, input_channels=3, mean=(0.1, 0.2, 0.3), std=(0.5,) * 3)
    assert input_shape(model, (48, 48, 1)) == (112, 112, 3)
    found = np.asarray(make_preprocess(model)(to_unit(jnp.asarray(images))))
    for image, ours in zip(images[..., 0], found, strict=True):
        larger = Image.fromarray(image / np.float32(255)).resize((112, 112), 2)
        for c in range(3):
            expected = (np.asarray(larger) - model.mean[c]) / 0.5
            np.testing.assert_allclose(ours[..., c], expected, atol=1e-5)


def test_unknown():
    with pytest.raises(ValueError, match="'dataset', 'face'"):
        make_preprocess(make(normalization="batch"))
