"""A large gray image that is drawn on in the coordinates of a face.

    canvas = Canvas(pose, background=0.5)
    canvas.fill(x, y, tone=0.8)                 # a polygon; x and y are float [n]
    image = canvas.reduced()                    # float32 [48, 48], 0 to 1

In face coordinates x goes to the image's right and y down; the origin is between the
eyes and the nose's tip, and the side of the head and the chin are about one unit away.
Tones are 0 (black) to 1 (white). Polygons are drawn four times too large and averaged.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

from deepfer_jax.data.synthetic.sampling import Pose

SIZE = 48
_SUPERSAMPLING = 4


def project(pose: Pose, x, y, depth=None) -> np.ndarray:
    """Maps face coordinates [n] to pixels [n, 2]; depth None is the head's front."""
    if depth is None:
        depth = 0.85 * np.sqrt(np.maximum(1 - x * x - (y / 1.5) ** 2, 0.05))
    x = x * math.cos(pose.yaw) + depth * math.sin(pose.yaw)
    y = y * math.cos(pose.pitch) + depth * math.sin(pose.pitch)
    cos, sin = pose.scale * math.cos(pose.roll), pose.scale * math.sin(pose.roll)
    pixels = np.empty((len(x), 2))
    pixels[:, 0] = pose.center[0] + cos * x - sin * y
    pixels[:, 1] = pose.center[1] + sin * x + cos * y
    return pixels


def _slope(values: np.ndarray) -> np.ndarray:
    """Central differences, times two; np.gradient takes three times as long."""
    slope = np.empty_like(values)
    slope[1:-1] = values[2:] - values[:-2]
    slope[0] = 2 * (values[1] - values[0])
    slope[-1] = 2 * (values[-1] - values[-2])
    return slope


class Canvas:
    """A large gray image that is drawn on in face coordinates."""

    def __init__(self, pose: Pose, background: float):
        side = SIZE * _SUPERSAMPLING
        self._pose = pose
        self._image = Image.new("L", (side, side), self._level(background))
        self._draw = ImageDraw.Draw(self._image)

    @staticmethod
    def _level(tone: float) -> int:
        return int(min(max(255 * tone, 0), 255))

    def fill(self, x, y, tone: float, depth=None) -> None:
        """Fills the polygon with corners x, y, each [n]."""
        points = project(self._pose, x, y, depth) * _SUPERSAMPLING
        self._draw.polygon(points.ravel().tolist(), fill=self._level(tone))

    def stroke(self, x, y, width, tone: float, depth=None) -> None:
        """Draws a line along x, y; the width is a number or [n], in their units."""
        along_x, along_y = _slope(x), _slope(y)
        half = 0.5 * width / np.maximum(np.hypot(along_x, along_y), 1e-6)
        right, down = -along_y * half, along_x * half
        x = np.concatenate([x + right, (x - right)[::-1]])
        y = np.concatenate([y + down, (y - down)[::-1]])
        self.fill(x, y, tone, depth)

    def reduced(self) -> np.ndarray:
        """Returns the image averaged down: float32 [48, 48], 0 to 1."""
        return np.asarray(self._image.reduce(_SUPERSAMPLING), np.float32) / 255
