"""Photographs of any size: their faces, and a picture of what was found.

    faces = find_faces(analyzer, image)
    draw_faces(image, faces, analyzer.classes).save("annotated.jpg")

Needs Pillow beside what `analyzer` needs.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.tiles import find_in_tiles
from deepfer_jax.outputs import replacing

# Larger photographs are made smaller before faces are looked for.
_LONGEST = 1920
# Okabe and Ito's colours, as the page has them.
COLORS = {
    "angry": "#d55e00",
    "disgust": "#5a8f29",
    "fear": "#b45fa0",
    "happy": "#e6a800",
    "sad": "#2f7fc1",
    "surprise": "#17b0c4",
    "neutral": "#8a939c",
}
_OTHER = "#8a939c"


def find_faces(analyzer: Analyzer, image: np.ndarray) -> list[Face]:
    """The faces of a photograph of any size; boxes and landmarks in its pixels.

    With the detector `auto` it is searched in tiles too (`deepfer_jax.faces.tiles`).

    Args:
      analyzer: finds and reads them.
      image: uint8 [H, W, 3], RGB.
    """
    height, width = image.shape[:2]
    scale = max(height, width) / _LONGEST
    if scale <= 1:
        return _find(analyzer, image)
    size = (max(1, round(width / scale)), max(1, round(height / scale)))
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    factor = np.array([width / size[0], height / size[1]], np.float32)
    return scale_faces(_find(analyzer, np.asarray(small)), factor)


def _find(analyzer: Analyzer, image: np.ndarray) -> list[Face]:
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
    image: np.ndarray, faces: Sequence[Face], classes: Sequence[str]
) -> Image.Image:
    """A picture with a box, a label and a bar a class for each face.

    Args:
      image: uint8 [H, W, 3], RGB.
      faces: in its pixels.
      classes: names of their probabilities.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture, "RGBA")
    unit = max(1.0, max(image.shape[:2]) / 800)
    for face in faces:
        _draw_face(draw, picture.size, face, classes, unit)
    return picture


def _draw_face(draw, size, face: Face, classes: Sequence[str], unit: float) -> None:
    color = _OTHER if face.unsure else COLORS.get(face.label, _OTHER)
    left, top, right, bottom = (float(x) for x in face.box)
    draw.rectangle((left, top, right, bottom), outline=color, width=round(3 * unit))
    row, wide, pad = 16 * unit, 150 * unit, 6 * unit
    high = row * (len(classes) + 1) + 2 * pad
    x = right + pad
    if x + wide > size[0]:
        x = left - wide - pad
    x = max(0.0, min(x, size[0] - wide))
    y = max(0.0, min(top, size[1] - high))
    draw.rounded_rectangle((x, y, x + wide, y + high), pad, fill=(12, 14, 17, 185))
    bold, plain = (ImageFont.load_default(n * unit) for n in (13, 11))
    named = "unsure" if face.unsure else face.label
    title = f"{named} {face.probability:.0%}"
    draw.text((x + pad, y + pad + row / 2), title, "white", bold, anchor="lm")
    start, length = x + pad + 62 * unit, wide - 2 * pad - 62 * unit
    for i, (name, p) in enumerate(zip(classes, face.probabilities, strict=True)):
        middle = y + pad + row * (i + 1.5)
        draw.text((x + pad, middle), name, "white", plain, anchor="lm")
        edges = (middle - 4 * unit, middle + 4 * unit)
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
