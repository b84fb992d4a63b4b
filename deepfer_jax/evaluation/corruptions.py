"""Bad light, bad optics, bad files, tilted and covered faces: made on the device.

    corrupt = make_corrupt("motion_blur", severity=3)
    images = corrupt(keys, images)            # uint8 [batch, H, W, C], as they were

After Hendrycks & Dietterich 2019 (arXiv:1903.12261), for faces of any size: lengths are
given for 48 pixels and scale with the width. Images are rounded to uint8 again, as a
camera or a file would give them.
"""

import functools
import math
from collections.abc import Callable

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np

from deepfer_jax.data.augment import affine, gaussian_blur

SEVERITIES = (1, 2, 3, 4, 5)


def dark(key, image, factor):
    """Too little light: pixels times `factor`."""
    del key
    return image * factor


def bright(key, image, gain):
    """Too much light: pixels times `gain`, cut at white."""
    del key
    return image * gain


def low_contrast(key, image, factor):
    """Haze: pixels `factor` times as far from their mean."""
    del key
    return pix.adjust_contrast(image, factor)


def blur(key, image, sigma):
    """Out of focus: a Gaussian of `sigma` pixels (of 48)."""
    del key
    pixel = image.shape[1] / 48
    hardest = CORRUPTIONS["blur"][1][-1]
    return gaussian_blur(image, sigma * pixel, math.ceil(3 * hardest * pixel))


def motion_blur(key, image, length):
    """Moved in any direction by `length` pixels (of 48) while it was taken."""
    length = length * image.shape[1] / 48
    angle = jax.random.uniform(key, maxval=jnp.pi)
    direction = jnp.array([jnp.sin(angle), jnp.cos(angle)])
    steps = jnp.linspace(-length / 2, length / 2, 2 * int(np.ceil(length)) + 1)
    moved = jax.vmap(lambda step: affine(image, jnp.eye(2), step * direction))(steps)
    return moved.mean(0)


def noise(key, image, sigma):
    """Sensor noise: a Gaussian of standard deviation `sigma`, every pixel its own."""
    return image + sigma * jax.random.normal(key, image.shape)


def _quantisation_table(quality: int | jax.Array) -> jax.Array:
    """Luminance, of ITU-T T.81 annex K, scaled as the Independent JPEG Group does."""
    table = np.array(
        [
            [16, 11, 10, 16, 24, 40, 51, 61],
            [12, 12, 14, 19, 26, 58, 60, 55],
            [14, 13, 16, 24, 40, 57, 69, 56],
            [14, 17, 22, 29, 51, 87, 80, 62],
            [18, 22, 37, 56, 68, 109, 103, 77],
            [24, 35, 55, 64, 81, 104, 113, 92],
            [49, 64, 78, 87, 103, 121, 120, 101],
            [72, 92, 95, 98, 112, 100, 103, 99],
        ]
    )
    percent = jnp.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return jnp.clip((table * percent + 50) // 100, 1, 255)


def jpeg(key, image, quality):
    """JPEG of that quality: 8x8 blocks, cosine transform, quantised coefficients.

    What is lost when a gray image is written and read; every channel is treated as one.
    """
    del key
    height, width, channels = image.shape
    padding = ((0, -height % 8), (0, -width % 8), (0, 0))
    padded = jnp.pad(image, padding, "edge")
    rows, columns = padded.shape[0] // 8, padded.shape[1] // 8
    n = np.arange(8)
    basis = np.cos(np.pi * (2 * n + 1) * n[:, None] / 16) / 2
    basis[0] /= np.sqrt(2)
    blocks = jnp.rint(padded * 255).reshape(rows, 8, columns, 8, channels) - 128
    exact = jax.lax.Precision.HIGHEST
    spectrum = jnp.einsum("ui,vj,ribjc->rubvc", basis, basis, blocks, precision=exact)
    table = _quantisation_table(quality)[None, :, None, :, None]
    spectrum = jnp.rint(spectrum / table) * table
    blocks = jnp.einsum("ui,vj,rubvc->ribjc", basis, basis, spectrum, precision=exact)
    return ((blocks + 128) / 255).reshape(padded.shape)[:height, :width]


def low_resolution(key, image, side):
    """A face of only `side` pixels (of 48), made larger again."""
    del key
    height, width, channels = image.shape
    small = (round(height * side / 48), round(width * side / 48), channels)
    return jax.image.resize(
        jax.image.resize(image, small, "linear"), image.shape, "linear"
    )


def rotation(key, image, degrees):
    """Tilted by `degrees`, to one side or the other."""
    angle = jnp.deg2rad(degrees) * jax.random.rademacher(key)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return affine(image, jnp.array([[cos, -sin], [sin, cos]]), jnp.zeros(2))


def shift(key, image, fraction):
    """A bad crop: moved in any direction by `fraction` of the width."""
    angle = jax.random.uniform(key, maxval=2 * jnp.pi)
    offset = fraction * image.shape[1] * jnp.array([jnp.sin(angle), jnp.cos(angle)])
    return affine(image, jnp.eye(2), offset)


def _cover(image, centre, half_height, value):
    """Fills a band, in fractions of height and width, with one gray value."""
    rows = (jnp.arange(image.shape[0]) + 0.5) / image.shape[0]
    columns = (jnp.arange(image.shape[1]) + 0.5) / image.shape[1]
    inside = (abs(rows - centre) < half_height)[:, None]
    wide = abs(columns - 0.5) < jnp.minimum(0.5, 0.3 + half_height)
    inside = inside & wide[None]
    return jnp.where(inside[:, :, None], value, image)


def covered_eyes(key, image, half_height):
    """Dark glasses: a band about the eyes of a face that fills the image."""
    del key
    return _cover(image, 0.38, half_height, 0.08)


def covered_mouth(key, image, half_height):
    """A mask: a light band about the mouth of a face that fills the image."""
    del key
    return _cover(image, 0.78, half_height, 0.85)


# Each corruption and its strength at the five severities.
CORRUPTIONS: dict[str, tuple[Callable, tuple[float, ...]]] = {
    "dark": (dark, (0.5, 0.3, 0.18, 0.1, 0.05)),
    "bright": (bright, (1.15, 1.3, 1.5, 1.8, 2.2)),
    "low_contrast": (low_contrast, (0.6, 0.4, 0.25, 0.15, 0.08)),
    "blur": (blur, (0.6, 1.0, 1.5, 2.0, 3.0)),
    "motion_blur": (motion_blur, (3, 5, 8, 11, 15)),
    "noise": (noise, (0.02, 0.04, 0.07, 0.1, 0.15)),
    "jpeg": (jpeg, (50, 30, 18, 10, 5)),
    "low_resolution": (low_resolution, (32, 24, 16, 12, 8)),
    "rotation": (rotation, (8, 15, 25, 35, 45)),
    "shift": (shift, (0.05, 0.1, 0.15, 0.2, 0.25)),
    "covered_eyes": (covered_eyes, (0.05, 0.08, 0.11, 0.15, 0.2)),
    "covered_mouth": (covered_mouth, (0.05, 0.08, 0.11, 0.15, 0.2)),
}


def make_corrupt(
    name: str, severity: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Compiles `corrupt(keys [b], images uint8 [b, H, W, C]) -> uint8 of that shape`.

    Args:
      name: a key of CORRUPTIONS.
      severity: 1 (hardly seen) to 5 (hard to read).
    """
    _, strengths = CORRUPTIONS[name]
    return functools.partial(_compiled(name), strengths[severity - 1])


@functools.cache
def _compiled(name: str) -> Callable[[float, jax.Array, jax.Array], jax.Array]:
    """One program for all severities, but where they decide how much is computed."""
    fn, _ = CORRUPTIONS[name]

    def corrupt(strength, keys, images):
        images = images.astype(jnp.float32) / 255
        images = jax.vmap(lambda key, image: fn(key, image, strength))(keys, images)
        return jnp.rint(255 * jnp.clip(images, 0, 1)).astype(jnp.uint8)

    is_static = name in ("motion_blur", "low_resolution")
    return jax.jit(corrupt, static_argnums=(0,) if is_static else ())
