"""layers: the fast forms give what Flax's own layers give, gradients too."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.models.layers import create_drop_path, max_pool


def random(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


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
