"""faces.blazeface: layers beside Flax's own, networks beside what LiteRT answers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from deepfer_jax.faces.detector import load_detector
from deepfer_jax.models.blazeface import BLAZEFACES, DepthwiseConv, pad
from tests import photos

# What LiteRT gives of grace_hopper.jpg's upper square in the .tflite files: the best
# anchor, its logit, and in pixels of the network its box and first landmark.
LITERT = {
    "short": (680, 2.17351, [-5.661, 4.017, 49.435, 49.424, -17.68, -7.65]),
    "full": (1033, 1.38688, [-2.676, -1.576, 77.292, 77.289, -17.923, -14.003]),
}


@pytest.mark.parametrize("name", LITERT)
def test_answers_are_those_of_litert(name):
    detector = load_detector(name)
    size = detector.model.size
    square = Image.fromarray(photos.photo("grace_hopper")).crop((0, 0, 512, 512))
    square = square.resize((size, size), Image.Resampling.BOX)
    image = np.asarray(square, np.float32)[None] / 127.5 - 1
    boxes, logits = jax.jit(detector.model.network.apply)(detector.variables, image)
    assert boxes.shape == (1, len(detector.model.anchors()), 16)
    best, logit, expected = LITERT[name]
    assert logits[0].argmax() == best
    np.testing.assert_allclose(logits[0, best], logit, atol=1e-3)
    np.testing.assert_allclose(boxes[0, best, :6], expected, atol=0.02)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (1, 2)])
def test_depthwise_convolutions_are_grouped_ones(stride, shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape, 5)), jnp.float32)
    ours = DepthwiseConv(stride)
    theirs = nn.Conv(
        5, (3, 3), strides=stride, feature_group_count=5, precision="highest"
    )
    padded = pad(x, stride)
    variables = ours.init(jax.random.key(0), padded)
    variables["params"]["bias"] = jnp.arange(5.0)
    np.testing.assert_allclose(
        ours.apply(variables, padded), theirs.apply(variables, x), atol=1e-5
    )


@pytest.mark.parametrize("name", BLAZEFACES)
def test_weights_that_ship_are_small_and_finite(name):
    """Half precision in the file, float32 in memory, one value for each place."""
    detector = load_detector(name)
    size = detector.model.size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    fresh = jax.eval_shape(detector.model.network.init, jax.random.key(0), images)
    assert jax.tree.map(jnp.shape, detector.variables) == jax.tree.map(
        lambda x: x.shape, fresh
    )
    for x in jax.tree.leaves(detector.variables):
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        np.testing.assert_array_equal(x, x.astype(np.float16))
