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

# Up to so many pixels of output a convolution is one product of matrices.
_FEW_PIXELS = 4


def convolve(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dimension_numbers: jax.lax.ConvDimensionNumbers,
    **options,
) -> jax.Array:
    """As jax.lax.conv_general_dilated, for channels last in two dimensions.

    Where at most 2x2 pixels come out of a larger window, the windows are laid side by
    side and multiplied with the kernel as a matrix: on a CPU, XLA's own convolution is
    20 to 80 times slower there (64 faces, 2x2x512: 635 ms against 8).
    """
    padding = _as_pairs(padding, lhs, rhs, window_strides)
    padded = [n + sum(p) for n, p in zip(lhs.shape[1:3], padding, strict=True)]
    rows, columns = (
        (n - k) // stride + 1
        for n, k, stride in zip(padded, rhs.shape[:2], window_strides, strict=True)
    )
    if rows * columns > _FEW_PIXELS or rhs.shape[:2] == (1, 1):
        return jax.lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            dimension_numbers=dimension_numbers,
            **options,
        )
    return convolve_as_product(
        lhs, rhs, window_strides, padding, dimension_numbers, **options
    )


def convolve_as_product(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dimension_numbers: jax.lax.ConvDimensionNumbers,
    *,
    precision: jax.lax.PrecisionLike = None,
    **options,
) -> jax.Array:
    """As `convolve`, always with the windows laid side by side.

    Also for a first layer: of three channels, XLA's own convolution takes a CPU twice
    to six times as long (1x128x128x3, 5x5 in steps of two: 2.3 ms against 0.4).
    """
    del dimension_numbers, options
    padding = _as_pairs(padding, lhs, rhs, window_strides)
    x = jnp.pad(lhs, ((0, 0), *padding, (0, 0)))
    # Columns first: half the time of all taps at once.
    for axis in (2, 1):
        size, stride = rhs.shape[axis - 1], window_strides[axis - 1]
        end = x.shape[axis] - size + 1
        taps = [jax.lax.slice_in_dim(x, i, end + i, stride, axis) for i in range(size)]
        x = jnp.concatenate(taps, axis=-1)
    return jnp.matmul(x, rhs.reshape(-1, rhs.shape[-1]), precision=precision)


def _as_pairs(padding, lhs, rhs, strides) -> Sequence[tuple[int, int]]:
    """Pixels before and after, of rows and columns."""
    if isinstance(padding, str):
        return jax.lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    return padding


Conv = functools.partial(nn.Conv, conv_general_dilated=convolve)


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


class BatchNorm(nn.BatchNorm):
    """Batch normalisation that stays as in inference where its path is frozen.

    Attributes:
      train: use and update batch statistics.
      frozen: whether the layer of a path such as "stage1/block1/norm1" is frozen.
    """

    train: bool = False
    frozen: Callable[[str], bool] | None = None

    def __call__(self, x: jax.Array) -> jax.Array:
        frozen = self.frozen is not None and self.frozen("/".join(self.path))
        return super().__call__(x, use_running_average=frozen or not self.train)


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
