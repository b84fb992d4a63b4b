"""Where a head looks, and whether a face is large enough, by its landmarks and box.

yaw, roll = pose(landmarks)                        # degrees
strengths = geometric_causes(boxes, yaw)           # [M, 2], of CAUSES
"""

import jax
import jax.numpy as jnp

# What `geometric_causes` tells, in order.
CAUSES = ("small", "turned")
# Pixels of a face's side, and degrees, at which a face is half lost.
_SIDE = 20
_YAW = 45


def pose(landmarks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Yaw and roll of heads, by the eyes, the tip of the nose and the ears.

    Along the line of the eyes the ears of a head that is turned by yaw come nearer to
    each other as its cosine, and the tip of the nose moves off their middle as its
    sine. It stands about as far before the ears' axis as each ear does from it, so that
    the ratio of both distances is the tangent.

    Args:
      landmarks: float [M, 6, 2], x and y in pixels: the eye that is left in the
        picture, the other, tip of the nose, mouth, the ear that is left in the picture,
        the other.

    Returns:
      yaw, float32 [M] in [-90, 90] degrees, positive where the nose points right in the
      picture; roll, float32 [M] in [-180, 180], positive where the head is tilted
      clockwise in the picture. Both are 0 where landmarks coincide.
    """
    eyes = landmarks[:, 1] - landmarks[:, 0]
    roll = jnp.arctan2(eyes[:, 1], eyes[:, 0])
    across = jnp.stack([jnp.cos(roll), jnp.sin(roll)], -1)
    along = jnp.sum(landmarks * across[:, None], -1)
    left, right = along[:, 4], along[:, 5]
    half = jnp.maximum((right - left) / 2, 0.0)
    yaw = jnp.arctan2(along[:, 2] - (left + right) / 2, half)
    return jnp.rad2deg(yaw), jnp.rad2deg(roll)


def geometric_causes(boxes: jax.Array, yaw: jax.Array) -> jax.Array:
    """How strongly size and yaw spoil faces.

    Args:
      boxes: float [M, 4], left, top, right, bottom in pixels.
      yaw: float [M], degrees.

    Returns:
      float32 [M, len(CAUSES)] in [0, 1]; 0.5 for a larger side of 20 pixels, and for a
      yaw of 45 degrees to either side.
    """
    side = (boxes[:, 2:] - boxes[:, :2]).max(-1)
    small = jnp.clip(1 - side / (2 * _SIDE), 0, 1)
    turned = jnp.clip(jnp.abs(yaw) / (2 * _YAW), 0, 1)
    return jnp.stack([small, turned], -1)
