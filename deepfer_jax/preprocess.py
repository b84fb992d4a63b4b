"""From pixels to what a network reads: one place for training, evaluation and export.

>>> import jax.numpy as jnp
>>> float(normalize(to_unit(jnp.full((1, 1, 1, 1), 255, jnp.uint8)), (0.5,), (0.25,))[0,
0, 0, 0]) 2.0
"""

import jax
import jax.numpy as jnp


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 [..., H, W, C] in 0..255 -> float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0


def normalize(
    images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
    """float32 [..., H, W, C] in [0, 1] -> (images - mean) / std, by channel."""
    return (images - jnp.asarray(mean)) / jnp.asarray(std)
