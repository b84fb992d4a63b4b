"""Batch normalisation with Flax's paths and numbers, and a gradient of its own.

    norm = functools.partial(BatchNorm, train=train, frozen=frozen, axis_name="batch")
    x = norm(name="norm1")(x)

On a CPU, XLA's sums over batch and pixels take longer than the convolutions between
them, in large programs that are differentiated automatically; here they take a tenth.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

# A sum over rows adds so many parts of them first.
_PARTS = 8


class BatchNorm(nn.BatchNorm):
    """Batch normalisation that stays as in inference where its path is frozen.

    As flax.linen.BatchNorm over the last axis, with scale and bias.

    Attributes:
      train: use and update batch statistics.
      frozen: whether the layer of a path such as "stage1/block1/norm1" is frozen.
    """

    train: bool = False
    frozen: Callable[[str], bool] | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]
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
        y, *batch_stats = normalize(x, scale, bias, self.epsilon, self.axis_name)
        for average, new in zip(averages, batch_stats, strict=True):
            average.value = self.momentum * average.value + (1 - self.momentum) * new
        return y.astype(self.dtype or y.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(
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
      The result float32 [..., channels], and the statistics, mean and variance, each
      float32 [channels], through which no gradient flows.
    """
    return _normalize(x, scale, bias, epsilon, axis_name)[0]


def _normalize(x, scale, bias, epsilon, axis_name):
    rows = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    sums = jnp.stack([sum_rows(rows), sum_rows(rows * rows)])
    mean, mean_of_squares = _mean(sums, len(rows), axis_name)
    var = jnp.maximum(0.0, mean_of_squares - mean * mean)
    inverse = jax.lax.rsqrt(var + epsilon)
    wide = functools.partial(_widen, rank=x.ndim)
    y = (x - wide(mean)) * wide(inverse * scale) + wide(bias)
    return (y, mean, var), (x, scale, mean, inverse)


def _widen(values: jax.Array, rank: int) -> jax.Array:
    """[channels] -> [1, ..., 1, channels]."""
    return values.reshape((1,) * (rank - 1) + (-1,))


def _normalize_gradients(epsilon, axis_name, residuals, gradients):
    del epsilon
    x, scale, mean, inverse = residuals
    g, _, _ = gradients
    wide = functools.partial(_widen, rank=x.ndim)
    normal = (x - wide(mean)) * wide(inverse)
    rows = g.reshape(-1, g.shape[-1])
    # Where g itself is added part by part, XLA computes it again from what it is made
    # of: the product needs it in memory, where the rest of the step finds it too.
    of_bias = _on_cpu(_product_with_ones, rows)
    of_scale = sum_rows((g * normal).reshape(rows.shape))
    means = _mean(jnp.stack([of_bias, of_scale]), len(rows), axis_name)
    of_x = g - wide(means[0]) - normal * wide(means[1])
    of_x = of_x * wide(scale * inverse)
    return of_x.astype(x.dtype), of_scale, of_bias


normalize.defvjp(_normalize, _normalize_gradients)


def sum_rows(rows: jax.Array) -> jax.Array:
    """float32 [rows, channels] -> [channels], as a CPU is fast at it."""
    return _on_cpu(lambda rows: _product_with_ones(_add_parts(rows)), rows)


def _on_cpu(sum_rows: Callable, rows: jax.Array) -> jax.Array:
    """XLA's own sum on accelerators, another on a CPU."""
    return jax.lax.platform_dependent(
        rows, cpu=sum_rows, default=lambda rows: rows.sum(0)
    )


def _add_parts(rows: jax.Array) -> jax.Array:
    """Adds eighths of the rows, which costs little more than to read them."""
    if len(rows) % _PARTS:
        return rows
    return functools.reduce(jnp.add, rows.reshape(_PARTS, -1, rows.shape[1]))


def _product_with_ones(rows: jax.Array) -> jax.Array:
    ones = jnp.ones((1, len(rows)), rows.dtype)
    return jnp.matmul(ones, rows, precision=jax.lax.Precision.HIGHEST)[0]


def _mean(sums: jax.Array, num: int, axis_name: str | None) -> jax.Array:
    means = sums / num
    return means if axis_name is None else jax.lax.pmean(means, axis_name)
