"""Cuts faces out of frames, upright and square, as the classifier was trained on them.

    images = crop_faces(frames, index, boxes, landmarks, Framing(), size, (48, 48, 1))

All on the device: a similarity transform that puts the eyes on a level, by bilinear
sampling of the original resolution, several samples a pixel.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# Samples a pixel and axis: faces up to 2 * 3 * 48 pixels wide are sampled densely.
_SAMPLES = 3
_LUMA = (0.299, 0.587, 0.114)


class Framing(NamedTuple):
    """How much of a face's surroundings belongs to its crop.

    margin is the crop's side over the larger side of the detector's box; offset moves
    its centre down the face, as a fraction of the crop's side.
    """

    margin: float = 1.0
    offset: float = 0.0


class Places(NamedTuple):
    """Where crops lie: centre [M, 2] and side [M] in pixels, x before y.

    across and down are unit vectors [M, 2], along the crops' edges.
    """

    centre: jax.Array
    side: jax.Array
    across: jax.Array
    down: jax.Array


def place_crops(boxes: jax.Array, landmarks: jax.Array, framing: Framing) -> Places:
    """Where the crops of faces lie in their frames; arguments as of `crop_faces`."""
    corners = boxes.reshape(-1, 2, 2)
    side = framing.margin * (corners[:, 1] - corners[:, 0]).max(-1)
    eyes = landmarks[:, 1] - landmarks[:, 0]
    # An eye that was not found leaves the face as it is.
    level = jnp.where(jnp.abs(eyes).sum(-1, keepdims=True) > 0, eyes, jnp.eye(2)[:1])
    across = level / jnp.linalg.norm(level, axis=-1, keepdims=True)
    down = across[:, ::-1] * jnp.array([[-1.0, 1.0]])
    centre = corners.mean(1) + framing.offset * side[:, None] * down
    return Places(centre, side, across, down)


def crop_faces(
    frames: jax.Array,
    frame_of: jax.Array,
    boxes: jax.Array,
    landmarks: jax.Array,
    framing: Framing,
    size: jax.Array,
    shape: tuple[int, int, int],
) -> jax.Array:
    """Crops of faces, turned so that the eyes are level.

    Args:
      frames: uint8 [N, H, W, 3], RGB; they fill the upper left `size` of the array.
      frame_of: int [M], which frame each face is in.
      boxes: float32 [M, 4], left, top, right, bottom in pixels.
      landmarks: float32 [M, >= 2, 2], x and y in pixels; first the eye that is left in
        the picture, then the other.
      framing: of the crop.
      size: int [2], the frames' true height and width; pixels outside repeat the edge.
      shape: (height, width, channels) of a crop; height equal to width, 1 or 3
        channels. Of one channel is the ITU-R 601 luma.

    Returns:
      uint8 [M, *shape].
    """
    centre, side, across, down = place_crops(boxes, landmarks, framing)
    num = shape[0] * _SAMPLES
    steps = (jnp.arange(num) + 0.5) / num - 0.5
    # Pixel i covers [i, i + 1]: its value is that of the point i + 1/2.
    points = (
        centre[:, None, None]
        + side[:, None, None, None]
        * (
            steps[None, None, :, None] * across[:, None, None]
            + steps[None, :, None, None] * down[:, None, None]
        )
        - 0.5
    )
    if shape[2] == 1:
        red, green, blue = (frames[..., c].astype(jnp.float32) for c in range(3))
        planes = [_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue]
    else:
        planes = [frames[..., c].astype(jnp.float32) for c in range(3)]
    sampled = [_sample(plane, frame_of, points, size) for plane in planes]
    blocks = jnp.stack(sampled, -1).reshape(
        -1, shape[0], _SAMPLES, shape[1], _SAMPLES, shape[2]
    )
    return jnp.rint(blocks.mean((2, 4))).astype(jnp.uint8)


def _sample(
    planes: jax.Array, frame_of: jax.Array, points: jax.Array, size: jax.Array
) -> jax.Array:
    """Bilinear values of planes [N, H, W] at points [M, h, w, 2] (x and y)."""
    _, height, width = planes.shape
    last = jnp.maximum(size - 1, 0)
    x = jnp.clip(points[..., 0], 0, last[1])
    y = jnp.clip(points[..., 1], 0, last[0])
    left, top = (jnp.floor(a).astype(jnp.int32) for a in (x, y))
    right, bottom = jnp.minimum(left + 1, last[1]), jnp.minimum(top + 1, last[0])
    flat = planes.reshape(-1)
    first = (frame_of * height)[:, None, None]

    def take(row, column):
        index = (first + row) * width + column
        return flat.at[index].get(mode="promise_in_bounds")

    x, y = x - left, y - top
    upper = (1 - x) * take(top, left) + x * take(top, right)
    lower = (1 - x) * take(bottom, left) + x * take(bottom, right)
    return (1 - y) * upper + y * lower
