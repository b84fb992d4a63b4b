"""Photographs of any size: their faces, and a picture of what was found.

    faces = find_faces(analyzer, image)
    draw_faces(image, faces, analyzer.classes).save("annotated.jpg")

Needs Pillow beside what `analyzer` needs.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepfer_jax.faces.face import Face, FindsFaces
from deepfer_jax.faces.tiles import find_in_tiles
from deepfer_jax.outputs import replacing

# Larger photographs are made smaller before faces are looked for.
_LONGEST = 1920
# Paul Tol's bright colours, as the page has them: the colour-blind tell them apart, and
# grey is neutral's alone.
COLORS = {
    "angry": "#ee6677",
    "disgust": "#228833",
    "fear": "#aa3377",
    "happy": "#ccbb44",
    "sad": "#4477aa",
    "surprise": "#66ccee",
    "neutral": "#bbbbbb",
}
_OTHER = "#e69f00"


def find_faces(analyzer: FindsFaces, image: np.ndarray) -> list[Face]:
    """The faces of a photograph of any size; boxes and landmarks in its pixels.

    With the detector `auto` it is searched in tiles too (`deepfer_jax.faces.tiles`).

    Args:
      analyzer: finds and reads them.
      image: uint8 [H, W, 3], RGB.
    """
    height, width = image.shape[:2]
    return find_in_smaller(analyzer, make_smaller(image), width, height)


def make_smaller(image: np.ndarray) -> np.ndarray:
    """The photograph as it is searched: at most 1920 pixels high and wide.

    Args:
      image: uint8 [H, W, 3], RGB.
    """
    height, width = image.shape[:2]
    scale = max(height, width) / _LONGEST
    if scale <= 1:
        return image
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def find_in_smaller(
    analyzer: FindsFaces, image: np.ndarray, width: int, height: int
) -> list[Face]:
    """As `find_faces`, of what `make_smaller` gave.

    Args:
      analyzer: finds and reads them.
      image: uint8 [h, w, 3], RGB.
      width: of the photograph.
      height: likewise.
    """
    faces = _find(analyzer, image)
    if image.shape[:2] == (height, width):
        return faces
    small = image.shape[1::-1]
    factor = np.array([width / small[0], height / small[1]], np.float32)
    return scale_faces(faces, factor)


def _find(analyzer: FindsFaces, image: np.ndarray) -> list[Face]:
    if analyzer.detector == "auto":
        return find_in_tiles(analyzer, image)
    return analyzer.analyze(image)[0]


def scale_faces(faces: Sequence[Face], factor: np.ndarray) -> list[Face]:
    """Boxes and landmarks in the pixels of a picture that is larger.

    Args:
      faces: in the pixels of a picture.
      factor: float32 [2], how many times wider and higher the other is.
    """
    return [
        face._replace(
            box=face.box * np.tile(factor, 2), landmarks=face.landmarks * factor
        )
        for face in faces
    ]


def draw_faces(
    image: np.ndarray,
    faces: Sequence[Face],
    classes: Sequence[str],
    bars: bool = False,
) -> Image.Image:
    """The picture with a box around each face and its tag.

    A tag lies above its box, or where it covers neither another face nor another tag.
    The box of an unsure face is dashed and its label has a question mark.

    Args:
      image: uint8 [H, W, 3], RGB.
      faces: boxes in its pixels.
      classes: names of the probabilities.
      bars: whether each tag has a bar for every probability too.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture, "RGBA")
    size = max(11.0, max(picture.size) / 75)  # of letters, in pixels
    boxes = [_Box(*map(float, face.box)) for face in faces]
    for face, box in zip(faces, boxes, strict=True):
        _draw_box(draw, box, _color(face), face.unsure, max(2, round(size / 6)))
    taken = list(boxes)
    for face, box in zip(faces, boxes, strict=True):
        others = [other for other in taken if other is not box]
        taken.append(
            _draw_tag(draw, picture.size, face, box, others, classes, size, bars)
        )
    return picture


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: "_Box") -> float:
        """Area that both have."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)


def _color(face: Face) -> str:
    return COLORS.get(face.label, _OTHER)


def _draw_box(draw, box: _Box, color: str, dashed: bool | None, width: int) -> None:
    if not dashed:
        draw.rectangle(box, outline=color, width=width)
        return
    dash = 4 * width
    for x in np.arange(box.left, box.right, 2 * dash):
        for y in (box.top, box.bottom):
            draw.line((x, y, min(x + dash, box.right), y), color, width)
    for y in np.arange(box.top, box.bottom, 2 * dash):
        for x in (box.left, box.right):
            draw.line((x, y, x, min(y + dash, box.bottom)), color, width)


def _draw_tag(
    draw,
    picture: tuple[int, int],
    face: Face,
    box: _Box,
    others: Sequence[_Box],
    classes: Sequence[str],
    size: float,
    bars: bool,
) -> _Box:
    """Draws what is said of a face, and returns where."""
    font = ImageFont.load_default(size)
    title = f"{face.label}{'?' if face.unsure else ''} {face.probability:.0%}"
    pad, row = size / 3, 1.25 * size
    wide = draw.textlength(title, font) + 2 * pad
    high = row + pad
    if bars:
        wide = max(wide, 9 * size)
        high += row * len(classes)
    place = _find_place(picture, box, others, wide, high)
    draw.rounded_rectangle(place, pad, fill=(12, 14, 17, 200))
    draw.rectangle(
        (place.left, place.bottom - pad / 2, place.right, place.bottom), _color(face)
    )
    x, middle = place.left + pad, place.top + pad / 2 + row / 2
    draw.text((x, middle), title, "white", font, anchor="lm")
    if bars:
        _draw_bars(draw, face, classes, place, middle, size)
    return place


def _find_place(
    picture: tuple[int, int],
    box: _Box,
    others: Sequence[_Box],
    wide: float,
    high: float,
) -> _Box:
    """Above the box, below, beside, or within: the first that covers least."""
    middle = (box.left + box.right) / 2
    corners = (
        (box.left, box.top - high),
        (box.right - wide, box.top - high),
        (box.left, box.bottom),
        (box.right, box.top),
        (box.left - wide, box.top),
        (middle - wide / 2, box.bottom - high),
    )
    candidates = []
    for left, top in corners:
        left = max(0.0, min(left, picture[0] - wide))
        top = max(0.0, min(top, picture[1] - high))
        candidates.append(_Box(left, top, left + wide, top + high))

    def cost(place: _Box) -> float:
        return sum(map(place.shared, others)) + 0.1 * place.shared(box)

    return min(candidates, key=cost)


def _draw_bars(
    draw, face: Face, classes: Sequence[str], place: _Box, middle: float, size: float
) -> None:
    font, pad, row = ImageFont.load_default(0.8 * size), size / 3, 1.25 * size
    start = place.left + pad + 4 * size
    length = place.right - pad - start
    for i, (name, p) in enumerate(zip(classes, face.probabilities, strict=True), 1):
        y = middle + i * row
        draw.text((place.left + pad, y), name, "white", font, anchor="lm")
        edges = (y - size / 4, y + size / 4)
        draw.rectangle((start, edges[0], start + length, edges[1]), (255, 255, 255, 45))
        end = start + length * float(p)
        draw.rectangle((start, edges[0], end, edges[1]), COLORS.get(name, _OTHER))


def save_picture(picture: Image.Image, out: pathlib.Path) -> str:
    """Writes a picture, and its folder; returns its name.

    Raises:
      UserError: it cannot be written.
    """
    with replacing(out) as path:
        picture.save(path, quality=92)
    return str(out)
