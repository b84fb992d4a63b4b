"""From pixels to what a network reads: one place for training, evaluation and export.

    preprocess = make_preprocess(config.model)
    inputs = preprocess(to_unit(images))

>>> import jax.numpy as jnp
>>> from ml_collections import ConfigDict
>>> model = ConfigDict({"input_size": 0, "input_channels": 0})
>>> model.update({"normalization": "dataset", "mean": (0.5,), "std": (0.25,)})
>>> white = to_unit(jnp.full((1, 1, 1, 1), 255, jnp.uint8))
>>> float(make_preprocess(model)(white)[0, 0, 0, 0])
2.0
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

NORMALIZATIONS = ("dataset", "face")
# Added to a face's variance: contrast of less than 1 % is not blown up.
_EPSILON = 1e-4


def to_unit(images: jax.Array) -> jax.Array:
    """uint8 [..., H, W, C] in 0..255 -> float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0


def input_shape(
    model: ConfigDict, image_shape: tuple[int, int, int]
) -> tuple[int, int, int]:
    """(height, width, channels) that the network reads of images of that shape."""
    height, width, channels = image_shape
    size = model.input_size
    return size or height, size or width, model.input_channels or channels


def make_preprocess(model: ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """Returns a function of float32 [batch, H, W, C] in [0, 1] to a network's input.

    In order: resized bilinearly to `input_size` pixels, one gray channel repeated to
    `input_channels`, normalised. Of `normalization` "dataset" that is (images - mean) /
    std, by channel; of "face" each image by its own mean and standard deviation over
    all pixels and channels, so that dark, bright and flat pictures look alike.

    Args:
      model: `config.model`: input_size and input_channels (0 leaves images as they
        are), normalization, mean and std.

    Raises:
      ValueError: unknown normalization.
    """
    if model.normalization not in NORMALIZATIONS:
        raise ValueError(
            f"normalization: expected one of {NORMALIZATIONS}, found "
            f"{model.normalization!r}"
        )

    def preprocess(images: jax.Array) -> jax.Array:
        batch, *old = images.shape
        height, width, channels = input_shape(model, (old[0], old[1], old[2]))
        if [height, width] != old[:2]:
            shape = (batch, height, width, old[2])
            images = jax.image.resize(images, shape, "linear")
        if channels != old[2]:
            images = jnp.broadcast_to(images, (batch, height, width, channels))
        if model.normalization == "face":
            return _normalize_faces(images)
        mean, std = (
            jnp.asarray(values)[None, None, None] for values in (model.mean, model.std)
        )
        return (images - mean) / std

    return preprocess


def _normalize_faces(images: jax.Array) -> jax.Array:
    axes = (-3, -2, -1)
    centred = images - images.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt(variance + _EPSILON)
