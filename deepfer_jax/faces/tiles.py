"""Faces of a still, large and small: the picture is searched whole and in tiles.

    faces = find_in_tiles(analyzer, image)

A detector sees a picture in 192x192 pixels, so in a group of people every face is a few
pixels wide. Squares of two sizes, which overlap by more than a face that either is to
find, are therefore searched too, and faces that several saw become one.

In 54 photographs of groups, crowds and portraits, whose faces are boxed, `full` finds
108 of 145 in the whole pictures, and with tiles 142 and one that is no face. Sizes,
scores and overlaps were chosen there (results/photos.json).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from deepfer_jax.faces.boxes import shared
from deepfer_jax.faces.face import Face, FindsFaces

# Sides of the squares, as parts of the picture's longer side.
_SIDES = (0.4, 0.18)
# Two neighbours share this part of their sides, or more.
_SHARED = 0.3
# Smaller squares would show the detector no more than the whole picture does.
_SMALLEST = 150
# What a square must score to be a face: there are so many squares.
_MIN_SCORE = 0.62
# Boxes of which more than this part of the smaller one is shared are one face.
_MAX_SHARED = 0.6
# A box that comes closer to its square's edge, in its own widths, is of a face cut off.
_MARGIN = 0.02


class Tile(NamedTuple):
    """A part of a picture, in pixels: its upper left corner and its size."""

    left: int
    top: int
    width: int
    height: int


def tile_levels(width: int, height: int) -> Iterator[list[Tile]]:
    """Gives the squares of each size, all of one shape, which cover the picture.

    >>> [len(level) for level in tile_levels(1600, 1200)]
    [12, 48]
    """
    for part in _SIDES:
        side = round(part * max(width, height))
        if side >= _SMALLEST:
            yield [
                Tile(left, top, min(side, width), min(side, height))
                for top in _starts(height, side)
                for left in _starts(width, side)
            ]


def _starts(length: int, side: int) -> list[int]:
    """Where squares begin along one axis, the first and the last at the edges."""
    if length <= side:
        return [0]
    steps = int(np.ceil((length - side) / (side * (1 - _SHARED))))
    return [round(i * (length - side) / steps) for i in range(steps + 1)]


def find_in_tiles(analyzer: FindsFaces, image: np.ndarray) -> list[Face]:
    """The faces of one picture, the surest first, each once.

    Args:
      analyzer: finds and reads them, with the detector `full`.
      image: uint8 [H, W, 3], RGB, of at most 3840 pixels a side.
    """
    height, width = image.shape[:2]
    candidates = list(analyzer.analyze(image)[0])
    for level in tile_levels(width, height):
        pixels = np.stack(
            [image[t.top : t.top + t.height, t.left : t.left + t.width] for t in level]
        )
        for tile, faces in zip(level, analyzer.analyze(pixels), strict=True):
            candidates += [
                _move(face, tile)
                for face in faces
                if face.score >= _MIN_SCORE and _is_whole(face, tile, width, height)
            ]
    return merge_faces(candidates)


def _move(face: Face, tile: Tile) -> Face:
    """From pixels of the tile to those of the picture."""
    corner = np.array([tile.left, tile.top], np.float32)
    return face._replace(
        box=face.box + np.tile(corner, 2), landmarks=face.landmarks + corner
    )


def _is_whole(face: Face, tile: Tile, width: int, height: int) -> bool:
    """Whether the tile cuts nothing off: an edge of the picture may."""
    left, top, right, bottom = face.box
    margin = _MARGIN * (right - left)
    return bool(
        (tile.left == 0 or left >= margin)
        and (tile.top == 0 or top >= margin)
        and (tile.left + tile.width == width or right <= tile.width - margin)
        and (tile.top + tile.height == height or bottom <= tile.height - margin)
    )


def merge_faces(faces: Sequence[Face]) -> list[Face]:
    """Of boxes that are one face the surest is kept; surest first."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(shared(face.box, other.box) <= _MAX_SHARED for other in kept):
            kept.append(face)
    return kept
