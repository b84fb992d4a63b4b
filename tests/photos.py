"""Photographs that come with packages: three with one face, three with none."""

import pathlib

import numpy as np
import pytest
from PIL import Image, ImageEnhance

WITH_A_FACE = ("astronaut", "camera", "grace_hopper")
WITHOUT = ("chelsea", "coffee", "rocket")
# left, top, right, bottom of the face, by eye.
FACES = {
    "astronaut": (175, 70, 275, 180),
    "camera": (185, 110, 270, 205),
    "grace_hopper": (160, 110, 370, 345),
}


def photo(name):
    """uint8 [H, W, 3], RGB; skips without the package."""
    if name == "grace_hopper":
        cbook = pytest.importorskip("matplotlib.cbook")
        folder = pathlib.Path(cbook.__file__).parent / "mpl-data/sample_data"
        return np.asarray(Image.open(folder / "grace_hopper.jpg").convert("RGB"))
    data = pytest.importorskip("skimage.data")
    image = getattr(data, name)()
    return np.ascontiguousarray(
        np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image[..., :3]
    )


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
