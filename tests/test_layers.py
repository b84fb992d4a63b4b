"""layers: the fast forms give what Flax's own layers give, gradients too."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.models.layers import (
    Conv,
    convolve,
    convolve_as_product,
    create_drop_path,
    max_pool,
)


def random(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", 1, ((2, 1), (1, 2))])
def test_convolutions_of_few_pixels(size, stride, padding):
    x = random(2, size, size + 1, 3)
    arguments = {"features": 5, "kernel_size": (3, 3), "strides": stride}
    ours = Conv(**arguments, padding=padding, precision="highest")
    theirs = nn.Conv(**arguments, padding=padding, precision="highest")
    variables = theirs.init(jax.random.key(0), x)

    def loss(module, variables, x):
        return jnp.sin(module.apply(variables, x)).sum()

    np.testing.assert_allclose(
        ours.apply(variables, x), theirs.apply(variables, x), atol=1e-5
    )
    gradients = [
        jax.grad(loss, argnums=(1, 2))(m, variables, x) for m in (ours, theirs)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *gradients)


@pytest.mark.parametrize("size", [2, 3])
def test_only_few_pixels_are_a_product_of_matrices(size):
    """Two by two pixels are one dot; three by three stay a convolution."""
    x = jnp.zeros((1, size, size, 3))
    text = str(jax.make_jaxpr(Conv(4, (3, 3)).init)(jax.random.key(0), x))
    assert ("conv_general_dilated" in text) == (size == 3)
    assert convolve is Conv.keywords["conv_general_dilated"]


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 1), (0, 2))])
def test_convolution_as_one_product(size, strides, padding):
    arguments = {"features": 4, "kernel_size": (size, size - 1), "strides": strides}
    ours, theirs = (
        nn.Conv(**arguments, padding=padding, precision="highest", **how)
        for how in ({"conv_general_dilated": convolve_as_product}, {})
    )
    x = random(2, 16, 13, 3)
    variables = theirs.init(jax.random.key(0), x)
    np.testing.assert_allclose(
        ours.apply(variables, x), theirs.apply(variables, x), atol=1e-5
    )


@pytest.mark.parametrize("size", [7, 8, 9, 45])
@pytest.mark.parametrize("padding", [0, 1])
def test_max_pool(size, padding):
    x = random(2, size, size + 1, 3)
    edges = ((padding, padding),) * 2

    def theirs(x):
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding=edges)

    np.testing.assert_array_equal(max_pool(x, padding), theirs(x))
    ours = jax.grad(lambda x: jnp.sin(max_pool(x, padding)).sum())(x)
    np.testing.assert_allclose(
        ours, jax.grad(lambda x: jnp.sin(theirs(x)).sum())(x), atol=1e-6
    )


def test_drop_path_leaves_out_whole_faces_as_often_as_it_says():
    """Huang et al. 2016: survivors are scaled, so that the mean stays."""
    x = jnp.ones((4000, 2, 2, 3))
    layer = create_drop_path(train=True)(0.3)
    y = np.asarray(layer.apply({}, x, rngs={"dropout": jax.random.key(0)}))
    assert set(np.unique(y.round(4))) == {0.0, np.float32(round(1 / 0.7, 4))}
    assert (y == y[:, :1, :1, :1]).all()
    assert (y[:, 0, 0, 0] == 0).mean() == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(create_drop_path(train=False)(0.3).apply({}, x), x)
