"""Convolutions in forms that XLA computes fast on a CPU, with the same numbers.

    conv = functools.partial(Conv, use_bias=False)
    x = conv(32, (3, 3), strides=2)(x)
    x = conv(32, (3, 3), feature_group_count=32)(x)        # depthwise

What XLA is slow at: few pixels of output, few channels of input, one channel a group,
and the gradient of the kernel. Accelerators have XLA's own forms where these differ by
speed alone, but of depthwise convolutions.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepfer_jax.models.batch_norm import sum_rows

# Up to so many pixels of output a convolution is one product of matrices.
_FEW_PIXELS = 4


def convolve(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    dimension_numbers: jax.lax.ConvDimensionNumbers,
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    feature_group_count: int = 1,
    precision: jax.lax.PrecisionLike = None,
    preferred_element_type: Any = None,
) -> jax.Array:
    """As jax.lax.conv_general_dilated, for channels last in two dimensions.

    Where at most 2x2 pixels come out of a larger window, the windows are laid side by
    side and multiplied with the kernel as a matrix: on a CPU, XLA's own convolution is
    20 to 80 times slower there (64 faces, 2x2x512: 635 ms against 8). Elsewhere the
    gradient of the kernel is computed as `_kernel_gradient` says. With a group for each
    channel it is `convolve_depthwise`.

    Raises:
      NotImplementedError: it is dilated, or its features are in other groups.
    """
    del dimension_numbers, preferred_element_type
    is_depthwise = feature_group_count == lhs.shape[-1] == rhs.shape[-1] > 1
    for name, value in (
        ("lhs_dilation", max(lhs_dilation or (1,))),
        ("rhs_dilation", max(rhs_dilation or (1,))),
        ("feature_group_count", 1 if is_depthwise else feature_group_count),
    ):
        if value != 1:
            raise NotImplementedError(f"convolve: {name} must be 1, found {value}")
    padding = _as_pairs(padding, lhs, rhs, window_strides)
    padded = [n + sum(p) for n, p in zip(lhs.shape[1:3], padding, strict=True)]
    rows, columns = (
        (n - k) // stride + 1
        for n, k, stride in zip(padded, rhs.shape[:2], window_strides, strict=True)
    )
    strides = tuple(window_strides)
    padding = tuple((low, high) for low, high in padding)
    if is_depthwise:
        return convolve_depthwise(lhs, rhs, strides, padding)
    if rhs.shape[:2] == (1, 1) and strides == (1, 1) and padded == [*lhs.shape[1:3]]:
        return _convolve_pixels(lhs, rhs, precision)
    if rhs.shape[:2] == (1, 1):
        return _convolve(lhs, rhs, strides, padding, precision)
    if rows * columns > _FEW_PIXELS:
        return _convolve_fast(lhs, rhs, strides, padding, precision)
    return convolve_as_product(lhs, rhs, strides, padding, None, precision=precision)


def _convolve(lhs, rhs, strides, padding, precision):
    return jax.lax.conv_general_dilated(
        lhs,
        rhs,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_pixels(lhs, rhs, precision):
    return jnp.matmul(lhs, rhs[0, 0], precision=precision)


def _convolve_pixels_forward(lhs, rhs, precision):
    return _convolve_pixels(lhs, rhs, precision), (lhs, rhs)


def _convolve_pixels_gradients(precision, residuals, g):
    lhs, rhs = residuals
    of_lhs = jnp.matmul(g, rhs[0, 0].T, precision=precision)
    # Differentiated automatically, g is copied in another order first: 100 ms of 700.
    rows, rows_of_g = (x.reshape(-1, x.shape[-1]) for x in (lhs, g))
    of_rhs = jnp.matmul(rows.T, rows_of_g, precision=precision)
    return of_lhs, of_rhs[None, None]


_convolve_pixels.defvjp(_convolve_pixels_forward, _convolve_pixels_gradients)


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
    dimension_numbers: jax.lax.ConvDimensionNumbers | None,
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


def convolve_depthwise(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> jax.Array:
    """Each channel with its own kernel: a sum of shifted images, each one multiplied.

    On a CPU, XLA's grouped convolution takes 3 to 20 times as long with its gradients
    (64 faces, 6x6x512: 209 ms against 10).

    Args:
      x: float [N, H, W, C].
      kernel: float [rows, columns, 1, C].
      strides: of rows and columns.
      padding: pixels before and after, of rows and columns.

    Returns:
      float [N, H', W', C].
    """
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    return _depthwise(padded, kernel, tuple(strides))


def _sum_taps(x, kernel, strides):
    taps = _shift(x, kernel.shape, strides)
    values = kernel.reshape(-1, 1, 1, 1, kernel.shape[-1])
    return functools.reduce(
        jnp.add, (tap * v for tap, v in zip(taps, values, strict=True))
    )


def _shift(x: jax.Array, shape: Sequence[int], strides: Sequence[int]):
    """What each tap of a kernel sees of x [..., H, W, C], row by row."""
    ends = [x.shape[i - 3] - shape[i] + 1 for i in (0, 1)]
    for i in range(shape[0]):
        rows = jax.lax.slice_in_dim(x, i, ends[0] + i, strides[0], x.ndim - 3)
        for j in range(shape[1]):
            yield jax.lax.slice_in_dim(rows, j, ends[1] + j, strides[1], x.ndim - 2)


def _depthwise_forward(x, kernel, strides):
    return _sum_taps(x, kernel, strides), (x, kernel)


def _depthwise_gradients(strides, residuals, g):
    # Read many times: without the barrier both are computed anew for every tap.
    (x, kernel), g = jax.lax.optimization_barrier((residuals, g))
    (of_x,) = jax.linear_transpose(lambda x: _sum_taps(x, kernel, strides), x)(g)
    of_kernel = [
        sum_rows((tap * g).astype(jnp.float32).reshape(-1, g.shape[-1]))
        for tap in _shift(x, kernel.shape, strides)
    ]
    return of_x, jnp.stack(of_kernel).reshape(kernel.shape).astype(kernel.dtype)


_depthwise = jax.custom_vjp(_sum_taps, nondiff_argnums=(2,))
_depthwise.defvjp(_depthwise_forward, _depthwise_gradients)


def _as_pairs(padding, lhs, rhs, strides) -> Sequence[tuple[int, int]]:
    """Pixels before and after, of rows and columns."""
    if isinstance(padding, str):
        return jax.lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    return padding


Conv = functools.partial(nn.Conv, conv_general_dilated=convolve)
