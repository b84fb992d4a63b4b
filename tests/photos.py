"""Photographs that come with packages: three with one face, three with none."""

import numpy as np
import pytest
from measuring import recall
from PIL import Image, ImageEnhance

FACES = recall.FACES
WITH_A_FACE = tuple(FACES)
WITHOUT = ("chelsea", "coffee", "rocket")


def photo(name):
    """uint8 [H, W, 3], RGB; skips without the package."""
    data = pytest.importorskip("skimage.data")
    pytest.importorskip("matplotlib")
    if name in WITH_A_FACE:
        return np.asarray(recall.load_photos()[name])
    return np.ascontiguousarray(getattr(data, name)()[..., :3])


def on_canvas(image, scale, width=640, height=480):
    """A picture scaled and laid in the middle of a gray frame."""
    picture = Image.fromarray(image)
    picture = picture.resize([max(1, round(scale * n)) for n in picture.size])
    canvas = Image.new("RGB", (width, height), (110, 115, 120))
    canvas.paste(
        picture, ((width - picture.width) // 2, (height - picture.height) // 2)
    )
    return np.asarray(canvas)


def tilted(image, degrees):
    gray = (110, 115, 120)
    turned = Image.fromarray(image).rotate(
        degrees, Image.Resampling.BICUBIC, fillcolor=gray
    )
    return np.asarray(turned)


def darkened(image, brightness):
    return np.asarray(
        ImageEnhance.Brightness(Image.fromarray(image)).enhance(brightness)
    )
