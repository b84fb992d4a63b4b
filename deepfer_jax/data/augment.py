"""Augmentation on the accelerator: dm-pix operations composed for one image, vmapped.

    images = augment_batch(keys, images, config.augment)        # inside the jitted step
    images, targets = mix_batch(key, images, targets, config.augment)

Images are float [height, width, channels] in [0, 1] and stay so. An operation whose
strength is 0 is not traced at all. Mixup and cutmix act on a batch and its targets,
before normalisation, so that networks which normalise otherwise can be shown the same.

No noise, blur or cover here is one of `evaluation.corruptions`, by which robustness is
measured: noise is uniform or salt and pepper, not Gaussian; blur is exponential, with a
width of its own along each axis, not Gaussian nor along a line; covers are rectangles
of noise and half-planes, not bands.

The order is flip, resolution, blur, crop, affine, light, cover, erasing, noise. Blur
and crop stand before the affine resampling because XLA on a CPU repeats a gather for
every use of its pixels: with everything on, a face of 48 x 48 takes 40 microseconds so,
and 110 with the blur after (a batch of 128, two cores). Alone: gamma 11, erasing 8,
affine 7, blur 3, crop 3, flip, brightness and contrast 1 each.
"""

import functools
import math
import numbers
from collections.abc import Sequence

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from deepfer_jax.errors import UserError

# The largest value of a field; the smallest is 0.
_LIMITS = {
    "flip": 1.0,
    "rotation": 180.0,
    "scale": 0.95,
    "shift": 0.95,
    "shear": 0.95,
    "brightness": 1.0,
    "contrast": 0.95,
    "gamma": 0.95,
    "blur": 1.0,
    "erasing": 1.0,
    "cover": 1.0,
    "noise": 1.0,
    "framing": 1.0,
}
# Of crops that detectors deliver, beside the data set's own square, as measured by
# scripts/measure_delivery.py on Training faces in textured frames: mean and standard
# deviation of the shift down and to the right, in sides, and of the side's log2.
_DELIVERED_SHIFT = ((0.03, 0.055), (0.0, 0.055))
_DELIVERED_LOG2_SIDE = (-0.13, 0.19)
_FEWEST_PIXELS = 24


def check_options(options: ConfigDict) -> None:
    """Checks `config.augment`.

    Raises:
      UserError: a value that is no number, or outside its range.
    """
    for name, value in options.items():
        limit = _LIMITS.get(name, math.inf)
        kind = numbers.Integral if name == "crop" else numbers.Real
        right = isinstance(value, kind) and 0 <= float(value) <= limit
        right = right and math.isfinite(value)
        if not right:
            noun = "an integer" if name == "crop" else "a number"
            upper = "" if limit == math.inf else f" and at most {limit}"
            raise UserError(
                f"config.augment.{name}: expected {noun} of at least 0{upper}, "
                f"found {value!r}"
            )


def augment_batch(keys: jax.Array, images: jax.Array, options: ConfigDict) -> jax.Array:
    """Augments images [batch, H, W, C], each with its own key of keys [batch].

    Args and returns as `augment`'s, with a leading batch axis.
    """
    return jax.vmap(augment, in_axes=(0, 0, None))(keys, images, options)


def augment(key: jax.Array, image: jax.Array, options: ConfigDict) -> jax.Array:
    """Augments one image.

    Args:
      key: all randomness comes from it.
      image: float [H, W, C] in [0, 1], or uint8, which is divided by 255.
      options: `config.augment`, see configs/default.py.

    Returns:
      [H, W, C] in [0, 1]; float32 for uint8 images, else their dtype. The arithmetic
      is float32.
    """
    dtype = jnp.float32 if image.dtype == jnp.uint8 else image.dtype
    scale = 255.0 if image.dtype == jnp.uint8 else 1.0
    image = image.astype(jnp.float32) / scale
    keys = jax.random.split(key, 11)
    o = options
    if o.flip:
        image = random_flip(keys[0], image, o.flip)
    if o.framing:
        image = random_resolution(keys[10], image, o.framing)
    if o.blur:
        image = random_blur(keys[6], image, o.blur)
    if o.crop:
        image = random_crop(keys[2], image, o.crop)
    if o.rotation or o.scale or o.shift or o.shear or o.framing:
        strengths = (o.rotation, o.scale, o.shift, o.shear, o.framing)
        image = random_affine(keys[1], image, *strengths)
    if o.contrast:
        image = pix.random_contrast(keys[3], image, 1 - o.contrast, 1 + o.contrast)
    if o.brightness:
        image = pix.random_brightness(keys[4], image, o.brightness)
    if o.contrast or o.brightness:
        image = jnp.clip(image, 0.0, 1.0)  # dm-pix leaves the range
    if o.gamma:
        image = pix.random_gamma(keys[5], image, 1 - o.gamma, 1 + o.gamma)
    if o.cover:
        image = random_cover(keys[8], image, o.cover)
    if o.erasing:
        image = random_erasing(keys[7], image, o.erasing)
    if o.noise:
        image = random_noise(keys[9], image, o.noise)
    return image.astype(dtype)


def random_flip(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    """Mirrors left and right with that probability."""
    return pix.random_flip_left_right(key, image, probability=probability)


def affine(image: jax.Array, matrix: jax.Array, offset: jax.Array) -> jax.Array:
    """Resamples bilinearly; outside, the nearest edge pixel is repeated.

    The same as dm_pix.affine_transform, which gathers in three dimensions and takes 20
    to 70 times as long. Sums are written out because a matrix product has few digits
    on a GPU or TPU, which would move pixels; and one index into the flattened image
    makes a lighter gather than `jax.scipy.ndimage.map_coordinates`.

    Args:
      image: float [H, W, C], H and W at least 2.
      matrix: [2, 2], from output to input (row, column), about the centre of the image.
      offset: [2], added to input coordinates, in pixels.

    Returns:
      float [H, W, C].
    """
    height, width, channels = image.shape
    y = jnp.arange(height)[:, None, None] - (height - 1) / 2
    x = jnp.arange(width)[None, :, None] - (width - 1) / 2
    rows = matrix[0, 0] * y + matrix[0, 1] * x + ((height - 1) / 2 + offset[0])
    columns = matrix[1, 0] * y + matrix[1, 1] * x + ((width - 1) / 2 + offset[1])
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    top = jnp.minimum(jnp.floor(rows), height - 2)
    left = jnp.minimum(jnp.floor(columns), width - 2)
    down, right = rows - top, columns - left
    flat = image.reshape(height * width, channels)
    first = (top * width + left).astype(jnp.int32)[:, :, 0]

    def pixels(step):
        return flat.at[first + step].get(mode="clip")

    upper = (1 - right) * pixels(0) + right * pixels(1)
    lower = (1 - right) * pixels(width) + right * pixels(width + 1)
    return (1 - down) * upper + down * lower


def random_affine(
    key: jax.Array,
    image: jax.Array,
    rotation: float,
    scale: float,
    shift: float,
    shear: float,
    framing: float = 0.0,
) -> jax.Array:
    """Rotation, scale, shift and shear, as one resampling, up to these strengths.

    With probability `framing`, scale and shift are those of a crop that a detector
    delivers: normal, with the deviations of BlazeFace's boxes.
    """
    draw = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
    angle = jnp.deg2rad(rotation) * draw[0]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    size, slant, moved = 1 + scale * draw[1], shear * draw[2], shift * draw[3:]
    if framing:
        choice_key, normal_key = jax.random.split(jax.random.fold_in(key, 1))
        normal = jax.random.normal(normal_key, (3,))
        mean, deviation = jnp.array((_DELIVERED_LOG2_SIDE, *_DELIVERED_SHIFT)).T
        delivered = mean + deviation * normal
        framed = jax.random.bernoulli(choice_key, framing)
        size = jnp.where(framed, 2.0 ** -delivered[0], size)
        moved = jnp.where(framed, delivered[1:], moved)
    # The rotation [[cos, -sin], [sin, cos]] times the shear [[1, 0], [slant, 1]].
    matrix = jnp.array([[cos - sin * slant, -sin], [sin + cos * slant, cos]]) / size
    return affine(image, matrix, moved * jnp.array(image.shape[:2]))


def random_resolution(
    key: jax.Array, image: jax.Array, probability: float
) -> jax.Array:
    """A face of fewer pixels, made larger again, with that probability.

    Its height is 24 pixels up to the image's own, every one as often as the others. A
    pixel is the average of what it covers, as a camera's is; made larger, it is
    interpolated linearly.
    """
    apply_key, size_key = jax.random.split(key)
    height, width = image.shape[:2]
    few = min(_FEWEST_PIXELS, height)
    index = jax.random.randint(size_key, (), 0, height - few + 1)
    shares = np.arange(few, height + 1) / height
    rows, columns = (
        jnp.stack([_coarsen(n, round(n * share)) for share in shares])[index]
        for n in (height, width)
    )
    coarse = jnp.einsum("ij,jkc,lk->ilc", rows, image, columns, precision="highest")
    return jnp.where(jax.random.bernoulli(apply_key, probability), coarse, image)


@functools.cache
def _coarsen(size: int, few: int) -> np.ndarray:
    """Matrix float32 [size, size]: averages into `few` pixels, interpolates back."""
    edges = np.arange(few + 1) * size / few
    pixels = np.arange(size)
    cover = np.minimum(edges[1:, None], pixels + 1)
    cover -= np.maximum(edges[:-1, None], pixels)
    average = np.maximum(cover, 0) * few / size
    centres = np.clip((pixels + 0.5) * few / size - 0.5, 0, few - 1)
    back = np.maximum(1 - np.abs(centres[:, None] - np.arange(few)), 0)
    return (back @ average).astype(np.float32)


def random_crop(key: jax.Array, image: jax.Array, padding: int) -> jax.Array:
    """Repeats the edges by `padding` pixels, and crops the old size anywhere."""
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)), "edge")
    return pix.random_crop(key, padded, image.shape)


def gaussian_blur(image: jax.Array, sigma: jax.Array, radius: int = 3) -> jax.Array:
    """Separable Gaussian blur of float [H, W, C], cut at three sigma.

    The kernel has at most `radius` pixels to a side. The edges are repeated.
    dm_pix.gaussian_blur does the same (but for its zeros beyond the edges) by depthwise
    convolutions, which on a CPU take 50 times as long when every image has its own
    sigma.
    """
    distance = jnp.arange(-radius, radius + 1)
    weights = jnp.exp(-0.5 * (distance / sigma) ** 2)
    weights = jnp.where(jnp.abs(distance) <= jnp.ceil(3 * sigma), weights, 0.0)
    return _separable(image, (weights, weights))


def _separable(image: jax.Array, weights: Sequence[jax.Array]) -> jax.Array:
    """Filters rows, then columns, as sums of shifted images; edges are repeated."""
    for axis, kernel in enumerate(weights):
        kernel = kernel / kernel.sum()
        radius, size = len(kernel) // 2, image.shape[axis]
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded = jnp.pad(image, padding, "edge")
        shifted = (
            kernel[i] * jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
            for i in range(len(kernel))
        )
        image = functools.reduce(jnp.add, shifted)
    return image


def random_blur(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    """Blurs with that probability, along each axis by a width of its own.

    The kernel is exp(-|pixels| / width), cut at 5 pixels, of a width of 0.1 to 2.
    """
    apply_key, width_key = jax.random.split(key)
    widths = jax.random.uniform(width_key, (2,), minval=0.1, maxval=2.0)
    distance = jnp.abs(jnp.arange(-5, 6))
    blurred = _separable(image, [jnp.exp(-distance / width) for width in widths])
    return jnp.where(jax.random.bernoulli(apply_key, probability), blurred, image)


def random_cover(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    """Hides what lies beyond a line, with that probability, under one gray value.

    The line has any direction and lies 0 to 0.4 of the width from the centre.
    """
    keys = jax.random.split(key, 4)
    angle = jax.random.uniform(keys[0], maxval=2 * jnp.pi)
    distance = jax.random.uniform(keys[1], maxval=0.4)
    height, width = image.shape[:2]
    y = ((jnp.arange(height) + 0.5) / height - 0.5)[:, None, None]
    x = ((jnp.arange(width) + 0.5) / width - 0.5)[None, :, None]
    beyond = y * jnp.sin(angle) + x * jnp.cos(angle) > distance
    covered = jnp.where(beyond, jax.random.uniform(keys[2]), image)
    return jnp.where(jax.random.bernoulli(keys[3], probability), covered, image)


def random_noise(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    """Adds noise with that probability: of three kinds, each as often as the others.

    Uniform, added; uniform, by which pixels are multiplied; salt and pepper. Its
    standard deviation, or the share of pixels that turn white or black, is 0 to 0.15
    (twice that where it multiplies); every pixel and channel has its own.
    """
    keys = jax.random.split(key, 4)
    strength = 0.15 * jax.random.uniform(keys[0])
    kind = jax.random.randint(keys[1], (), 0, 3)
    # Drawn flat: a short last axis of channels is slow on a CPU.
    draw = jax.random.uniform(keys[2], (image.size,)).reshape(image.shape)
    uniform = (2 * draw - 1) * jnp.sqrt(3.0) * strength
    pepper = jnp.where(draw < strength / 2, 0.0, image)
    noisy = jnp.select(
        [kind == 0, kind == 1],
        [image + uniform, image * (1 + 2 * uniform)],
        jnp.where(draw > 1 - strength / 2, 1.0, pepper),
    )
    noisy = jnp.clip(noisy, 0.0, 1.0)
    return jnp.where(jax.random.bernoulli(keys[3], probability), noisy, image)


def _box(row, column, height, width, shape) -> jax.Array:
    """bool [H, W, 1]: inside the box whose upper left corner is (row, column)."""
    rows, columns = jnp.arange(shape[0]), jnp.arange(shape[1])
    in_rows = (rows >= row) & (rows < row + height)
    in_columns = (columns >= column) & (columns < column + width)
    return (in_rows[:, None] & in_columns[None])[:, :, None]


def random_erasing(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    """Fills a rectangle with noise (Zhong et al. 2020, arXiv:1708.04896).

    Its area is 2 to 20 % of the image (the paper's 40 % would hide eyes and mouth at
    once), its aspect ratio 0.3 to 3.3; it lies wholly inside the image. The noise is
    uniform in [0, 1], one value a pixel and channel.
    """
    keys = jax.random.split(key, 6)
    height, width = image.shape[:2]
    area = jax.random.uniform(keys[0], minval=0.02, maxval=0.2) * height * width
    log_ratio = jnp.log(3.3) * jax.random.uniform(keys[1], minval=-1.0, maxval=1.0)
    h = jnp.clip(jnp.round(jnp.sqrt(area * jnp.exp(log_ratio))), 1, height)
    w = jnp.clip(jnp.round(jnp.sqrt(area / jnp.exp(log_ratio))), 1, width)
    row = jnp.floor(jax.random.uniform(keys[2]) * (height - h + 1))
    column = jnp.floor(jax.random.uniform(keys[3]) * (width - w + 1))
    inside = _box(row, column, h, w, image.shape)
    # Drawn flat: a short last axis of channels is slow on a CPU.
    noise = jax.random.uniform(keys[4], (image.size,)).reshape(image.shape)
    erased = jnp.where(inside, noise, image)
    return jnp.where(jax.random.bernoulli(keys[5], probability), erased, image)


def mixup(
    key: jax.Array, images: jax.Array, targets: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Blends each example with the next (Zhang et al. 2018, arXiv:1710.09412).

    The order of a batch is random already, so its neighbour is a random partner. All
    examples of a batch (of one device) share one weight.

    Args:
      key: one for the batch.
      images: float [batch, H, W, C], normalised or not.
      targets: float [batch, classes].
      alpha: the weight is drawn from Beta(alpha, alpha).

    Returns:
      images and targets, of the same shapes and dtypes.
    """
    weight = jax.random.beta(key, alpha, alpha)
    return _blend(weight, images), _blend(weight, targets)


def cutmix(
    key: jax.Array, images: jax.Array, targets: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Pastes a box of the next example (Yun et al. 2019, arXiv:1905.04899).

    Its centre is anywhere in the image. Targets are weighed by the area that was really
    pasted, after the box was cut at the edges. Arguments and returns as `mixup`'s.
    """
    area_key, row_key, column_key = jax.random.split(key, 3)
    height, width = images.shape[1:3]
    side = jnp.sqrt(1 - jax.random.beta(area_key, alpha, alpha))
    h, w = jnp.round(side * height), jnp.round(side * width)
    row = jnp.floor(jax.random.uniform(row_key) * height) - h // 2
    column = jnp.floor(jax.random.uniform(column_key) * width) - w // 2
    inside = _box(row, column, h, w, images.shape[1:])
    mixed = jnp.where(inside[None], jnp.roll(images, 1, axis=0), images)
    return mixed, _blend(1 - inside.mean(), targets)


def _blend(weight: jax.Array, x: jax.Array) -> jax.Array:
    """Returns weight * x + (1 - weight) * the next example of x [batch, ...]."""
    weight = weight.astype(x.dtype)
    return weight * x + (1 - weight) * jnp.roll(x, 1, axis=0)


def mix_batch(
    key: jax.Array, images: jax.Array, targets: jax.Array, options: ConfigDict
) -> tuple[jax.Array, jax.Array]:
    """Mixup, cutmix, or, where both are on, one of them at random."""
    choice_key, key = jax.random.split(key)

    def mix_up(images, targets):
        return mixup(key, images, targets, options.mixup_alpha)

    def cut_mix(images, targets):
        return cutmix(key, images, targets, options.cutmix_alpha)

    if options.mixup_alpha and options.cutmix_alpha:
        choice = jax.random.bernoulli(choice_key)
        return jax.lax.cond(choice, mix_up, cut_mix, images, targets)
    if options.mixup_alpha:
        return mix_up(images, targets)
    if options.cutmix_alpha:
        return cut_mix(images, targets)
    return images, targets
