"""layers: the fast forms give what Flax's own layers give, gradients too."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.models.layers import max_pool, run_stages


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


class Branch(nn.Module):
    """A block of nothing but its own branch, which may be left out."""

    features: int
    stride: int
    drop_path: Callable[[float], nn.Module]
    drop_rate: float

    @nn.compact
    def __call__(self, x):
        return self.drop_path(self.drop_rate)(x)


class OneBlock(nn.Module):
    stage_blocks: tuple[int, ...] = (1,)
    stochastic_depth: float = 0.3

    @nn.compact
    def __call__(self, x, train):
        return run_stages(self, x, Branch, (3,), train)


def test_whole_branches_are_left_out_as_often_as_is_said():
    """Huang et al. 2016: survivors are scaled, so that the mean stays."""
    x, key = jnp.ones((4000, 2, 2, 3)), jax.random.key(0)
    y = np.asarray(OneBlock().apply({}, x, train=True, rngs={"dropout": key}))
    assert set(np.unique(y.round(4))) == {0.0, np.float32(round(1 / 0.7, 4))}
    assert (y == y[:, :1, :1, :1]).all()
    assert (y[:, 0, 0, 0] == 0).mean() == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(OneBlock().apply({}, x, train=False), x)
