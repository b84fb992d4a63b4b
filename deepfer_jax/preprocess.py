"""From pixels to what a network reads: one place for training, evaluation and export.

    normalize = make_normalize("dataset", mean=(0.5,), std=(0.25,))
    inputs = normalize(to_unit(images))

>>> import jax.numpy as jnp
>>> white = to_unit(jnp.full((1, 1, 1, 1), 255, jnp.uint8))
>>> float(make_normalize("dataset", (0.5,), (0.25,))(white)[0, 0, 0, 0])
2.0
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

NORMALIZATIONS = ("dataset", "face")
# Added to a face's variance: contrast of less than 1 % is not blown up.
_EPSILON = 1e-4


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 [..., H, W, C] in 0..255 -> float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0


def make_normalize(
    kind: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[jax.Array], jax.Array]:
    """Returns a function of float32 [..., H, W, C] in [0, 1] to what a network reads.

    Args:
      kind: "dataset": (images - mean) / std, by channel; "face": each image by its own
        mean and standard deviation over all pixels and channels, so that dark, bright
        and flat pictures look alike.
      mean: of each channel, read by "dataset" alone.
      std: likewise.

    Raises:
      ValueError: unknown kind.
    """
    if kind == "dataset":
        return lambda images: (images - jnp.asarray(mean)) / jnp.asarray(std)
    if kind == "face":
        return _normalize_faces
    raise ValueError(f"normalization: expected one of {NORMALIZATIONS}, found {kind!r}")


def _normalize_faces(images: jax.Array) -> jax.Array:
    axes = (-3, -2, -1)
    centred = images - images.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt(variance + _EPSILON)
