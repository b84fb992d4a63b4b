"""Layers that the networks share.

conv = functools.partial(Conv, use_bias=False)
norm = functools.partial(BatchNorm, train=train, frozen=frozen)
x = ConvNorm(32, (7, 7), conv, norm, stride=2, name="stem")(x)
x = max_pool(nn.relu(x), padding=1)
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


def max_pool(x: jax.Array, padding: int = 0) -> jax.Array:
    """The largest of 3x3 pixels, in steps of two; as nn.max_pool, of rows and columns.

    On a CPU the gradient takes a sixth of the time of XLA's select-and-scatter.
    """
    edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    x = jnp.pad(x, edges, constant_values=-jnp.inf)
    for axis in (1, 2):
        end = x.shape[axis] - 2
        first, second, third = (
            jax.lax.slice_in_dim(x, i, end + i, 2, axis) for i in range(3)
        )
        x = jnp.maximum(jnp.maximum(first, second), third)
    return x


class ConvNorm(nn.Module):
    """A convolution and its batch normalisation, as `conv` and `norm`."""

    features: int
    kernel_size: tuple[int, int]
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    stride: int = 1
    padding: int | str = "SAME"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(
            self.features,
            self.kernel_size,
            strides=self.stride,
            padding=self.padding,
            name="conv",
        )(x)
        return self.norm(name="norm")(x)


def create_drop_path(train: bool) -> Callable[[float], nn.Module]:
    """Returns `drop_path(rate)`, a layer that drops whole branches: stochastic depth.

    In training a face's branch is left out with probability `rate`, or divided by
    1 - rate (Huang et al. 2016, arXiv:1603.09382).
    """
    return functools.partial(
        nn.Dropout, broadcast_dims=(1, 2, 3), deterministic=not train
    )


def drop_rates(stage_blocks: Sequence[int], highest: float) -> list[list[float]]:
    """The rate of each stage's blocks, rising in a line to that of the last block.

    >>> drop_rates((1, 3), 0.5)
    [[0.125], [0.25, 0.375, 0.5]]
    """
    total, rates, before = sum(stage_blocks), [], 0
    for num in stage_blocks:
        rates.append([highest * (before + i + 1) / total for i in range(num)])
        before += num
    return rates


class Stage(nn.Module):
    """Residual blocks of one width; the first one divides the image by `stride`.

    They are called block1, block2, ... or count from another `first` number; there are
    as many as `drop_rates`, the probabilities of leaving out their branches.
    """

    features: int
    stride: int
    block: Callable[..., nn.Module]
    drop_rates: Sequence[float]
    first: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, rate in enumerate(self.drop_rates):
            stride = self.stride if i == 0 else 1
            name = f"block{self.first + i}"
            x = self.block(self.features, stride, drop_rate=rate, name=name)(x)
        return x
