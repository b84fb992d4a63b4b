"""convolution: the fast forms give what Flax's own convolution gives, gradients too."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.models.convolution import Conv, convolve, convolve_as_product


def random(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def compare_with_flax(x, **arguments):
    """Values and gradients of ours and Flax's own convolution."""
    ours, theirs = (
        layer(**arguments, precision="highest") for layer in (Conv, nn.Conv)
    )
    variables = theirs.init(jax.random.key(0), x)

    def loss(module, variables, x):
        return jnp.sin(module.apply(variables, x)).sum()

    np.testing.assert_allclose(
        ours.apply(variables, x), theirs.apply(variables, x), atol=1e-5
    )
    gradients = [
        jax.grad(loss, argnums=(1, 2))(m, variables, x) for m in (ours, theirs)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *gradients)
    return str(jax.make_jaxpr(ours.apply)(variables, x))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", 1, ((2, 1), (1, 2))])
def test_convolutions_of_few_pixels(size, stride, padding):
    arguments = {"kernel_size": (3, 3), "strides": stride, "padding": padding}
    compare_with_flax(random(2, size, size + 1, 3), features=5, **arguments)


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


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2), (3, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 1), (0, 2))])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 5)])
def test_gradients_of_many_pixels(strides, padding, kernel):
    """The kernel's gradient has a form of its own; the image's is XLA's."""
    arguments = {"features": 5, "kernel_size": kernel, "strides": strides}
    ours, theirs = (
        layer(**arguments, padding=padding, precision="highest")
        for layer in (Conv, nn.Conv)
    )
    x = random(3, 12, 15, 4)
    variables = theirs.init(jax.random.key(0), x)

    def loss(module, variables, x):
        return jnp.sin(module.apply(variables, x)).sum()

    gradients = [
        jax.grad(loss, argnums=(1, 2))(m, variables, x) for m in (ours, theirs)
    ]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5), *gradients
    )


def test_gradients_in_bfloat16_are_near_those_in_float32():
    x = random(4, 12, 12, 8)
    variables = Conv(8, (3, 3)).init(jax.random.key(0), x)

    def gradients(dtype):
        layer = Conv(8, (3, 3), dtype=dtype)
        loss = lambda v, x: (layer.apply(v, x).astype(jnp.float32) ** 2).sum()  # noqa: E731
        return jax.grad(loss)(variables, x)["params"]["kernel"]

    low, high = gradients(jnp.bfloat16), gradients(jnp.float32)
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, high, atol=0.02 * float(jnp.abs(high).max()))


@pytest.mark.parametrize("size", [2, 12])
@pytest.mark.parametrize(
    "options", [{"kernel_dilation": 2}, {"feature_group_count": 2}]
)
def test_what_it_does_not_do_is_refused(size, options):
    with pytest.raises(NotImplementedError, match="must be 1, found 2"):
        Conv(4, (3, 3), **options).init(jax.random.key(0), random(1, size, size, 4))


@pytest.mark.parametrize("kernel", [(3, 3), (5, 3)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 1), (0, 2))])
def test_depthwise_convolution(kernel, strides, padding):
    text = compare_with_flax(
        random(3, 12, 7, 6),
        features=6,
        kernel_size=kernel,
        strides=strides,
        padding=padding,
        feature_group_count=6,
    )
    assert "conv_general_dilated" not in text


def test_one_pixel_is_a_product_of_matrices():
    x = random(3, 5, 4, 6)
    assert "dot_general" in compare_with_flax(x, features=8, kernel_size=(1, 1))
    # In steps of two, or padded, it stays a convolution.
    text = compare_with_flax(x, features=8, kernel_size=(1, 1), strides=2)
    assert "conv_general_dilated" in text
    text = compare_with_flax(x, features=8, kernel_size=(1, 1), padding=1)
    assert "conv_general_dilated" in text
