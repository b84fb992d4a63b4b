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
    *,
    precision: jax.lax.PrecisionLike = None,
    **options,
) -> jax.Array:
    """As jax.lax.conv_general_dilated, for channels last in two dimensions.

    Where at most 2x2 pixels come out of a larger window, the windows are laid side by
    side and multiplied with the kernel as a matrix: on a CPU, XLA's own convolution is
    20 to 80 times slower there (64 faces, 2x2x512: 635 ms against 8). Elsewhere the
    gradient of the kernel is computed as `_kernel_gradient` says.
    """
    del dimension_numbers, options
    padding = _as_pairs(padding, lhs, rhs, window_strides)
    padded = [n + sum(p) for n, p in zip(lhs.shape[1:3], padding, strict=True)]
    rows, columns = (
        (n - k) // stride + 1
        for n, k, stride in zip(padded, rhs.shape[:2], window_strides, strict=True)
    )
    strides, padding = tuple(window_strides), tuple(map(tuple, padding))
    if rhs.shape[:2] == (1, 1):
        return _convolve(lhs, rhs, strides, padding, precision)
    if rows * columns > _FEW_PIXELS:
        return _convolve_fast(lhs, rhs, strides, padding, precision)
    return convolve_as_product(
        lhs, rhs, strides, padding, None, precision=precision
    )


def _convolve(lhs, rhs, strides, padding, precision):
    return jax.lax.conv_general_dilated(
        lhs,
        rhs,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve_fast(lhs, rhs, strides, padding, precision):
    return _convolve(lhs, rhs, strides, padding, precision)


def _convolve_forward(lhs, rhs, strides, padding, precision):
    return _convolve(lhs, rhs, strides, padding, precision), (lhs, rhs)


def _convolve_gradients(strides, padding, precision, residuals, g):
    lhs, rhs = residuals
    options = (strides, padding, precision)
    of_lhs, of_rhs = (
        jax.linear_transpose(lambda x: _convolve(x, rhs, *options), lhs),
        jax.linear_transpose(lambda k: _convolve(lhs, k, *options), rhs),
    )
    return *of_lhs(g), jax.lax.platform_dependent(
        lhs,
        g,
        cpu=lambda lhs, g: _kernel_gradient(lhs, g, rhs.shape, *options),
        default=lambda lhs, g: of_rhs(g)[0],
    )


_convolve_fast.defvjp(_convolve_forward, _convolve_gradients)


def _kernel_gradient(x, g, shape, strides, padding, precision):
    """The gradient of a convolution's kernel, as a CPU is fast at it.

    XLA copies x to [C, H, W, N], an order that misses the cache at every element, and
    takes as long for it as for the convolution. Here it becomes [H, W, C, N], in a
    quarter of the time, and is read as one image of H x W * C pixels: with windows
    dilated by C, the columns that come out are the kernel's columns and channels.

    Args:
      x: [N, H, W, C], the convolution's input.
      g: [N, H', W', features], the gradient of its output.
      shape: of the kernel, [rows, columns, C, features].
      strides, padding, precision: of the convolution.
    """
    num, *sizes, channels = x.shape
    image = x.transpose(1, 2, 3, 0).reshape(1, sizes[0], sizes[1] * channels, num)
    pads = [
        (low, (out - 1) * stride + taps - size - low)
        for size, out, taps, stride, (low, _) in zip(
            sizes, g.shape[1:3], shape[:2], strides, padding, strict=True
        )
    ]
    pads[1] = tuple(channels * pad for pad in pads[1])
    gradient = jax.lax.conv_general_dilated(
        image,
        g,
        (1, 1),
        pads,
        rhs_dilation=(strides[0], strides[1] * channels),
        dimension_numbers=("NHWC", "IHWO", "NHWC"),
        precision=precision,
    )
    return gradient.reshape(shape)


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

    Paths, statistics and numbers are Flax's; in training `normalize_batch` computes
    them.

    Attributes:
      train: use and update batch statistics.
      frozen: whether the layer of a path such as "stage1/block1/norm1" is frozen.
    """

    train: bool = False
    frozen: Callable[[str], bool] | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        frozen = self.frozen is not None and self.frozen("/".join(self.path))
        if frozen or not self.train or self.is_initializing():
            return super().__call__(x, use_running_average=frozen or not self.train)
        shape = (x.shape[-1],)
        averages = [
            self.variable("batch_stats", name, make, shape)
            for name, make in (("mean", jnp.zeros), ("var", jnp.ones))
        ]
        scale = self.param("scale", self.scale_init, shape, self.param_dtype)
        bias = self.param("bias", self.bias_init, shape, self.param_dtype)
        y, *batch_stats = normalize_batch(
            x, scale, bias, self.epsilon, self.axis_name
        )
        for average, new in zip(averages, batch_stats, strict=True):
            average.value = self.momentum * average.value + (1 - self.momentum) * new
        return y.astype(self.dtype or y.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize_batch(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Batch normalisation in training (Ioffe & Szegedy 2015, arXiv:1502.03167).

    Args:
      x: float [..., channels].
      scale: float32 [channels].
      bias: float32 [channels].
      epsilon: added to the variance.
      axis_name: over whose devices statistics are averaged, or None.

    Returns:
      The result float32 [..., channels], and the statistics, mean and variance,
      float32 [channels], through which no gradient flows.
    """
    return _normalize_batch(x, scale, bias, epsilon, axis_name)[0]


def _normalize_batch(x, scale, bias, epsilon, axis_name):
    flat = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    sums = jnp.stack([_sum_rows(flat), _sum_rows(flat * flat)])
    mean, mean_of_squares = _mean(sums, len(flat), axis_name)
    var = jnp.maximum(0.0, mean_of_squares - mean * mean)
    inverse = jax.lax.rsqrt(var + epsilon)
    y = (x - mean) * (inverse * scale) + bias
    return (y, mean, var), (x, scale, mean, inverse)


def _normalize_batch_gradient(epsilon, axis_name, residuals, gradients):
    del epsilon
    x, scale, mean, inverse = residuals
    g = gradients[0]
    normal = (x - mean) * inverse
    flat = g.reshape(-1, g.shape[-1])
    sums = jnp.stack([_sum_rows(flat), _sum_rows((g * normal).reshape(flat.shape))])
    of_bias, of_scale = sums
    mean_g, mean_gn = _mean(sums, len(flat), axis_name)
    of_x = (g - mean_g - normal * mean_gn) * (scale * inverse)
    return of_x.astype(x.dtype), of_scale, of_bias


normalize_batch.defvjp(_normalize_batch, _normalize_batch_gradient)


def _sum_rows(x: jax.Array) -> jax.Array:
    """[rows, channels] -> [channels], as a product: XLA's sums are slow on a CPU."""
    ones = jnp.ones((1, len(x)), x.dtype)
    return jnp.matmul(ones, x, precision=jax.lax.Precision.HIGHEST)[0]


def _mean(sums: jax.Array, num: int, axis_name: str | None) -> jax.Array:
    means = sums / num
    return means if axis_name is None else jax.lax.pmean(means, axis_name)


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
