"""Reads image files of any kind as uint8 gray or RGB, or says which one it cannot read.

    image = read_image("face.jpg")               # uint8 [H, W] or RGB [H, W, 3]
    face = fit_face(image, (48, 48, 1))          # inference.py: to a network's input

Upright by the EXIF rotation; palettes, CMYK and one-bit images are converted;
transparent pixels are laid over white; 16-bit gray is scaled to 8 bits. Of a phone's
photo with a preview or a second view behind it (MPO) the first is read. Refused:
animations (which frame would be the face?), floating-point and 32-bit images (which
value would be white?), damaged and cut-off files. Needs Pillow and numpy alone.
"""

import io
import math
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = {
    ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm",
    ".tif", ".tiff", ".webp",
}  # fmt: skip
# Pillow opens more, some by starting other programs (EPS).
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class ImageError(ValueError):
    """An image file that cannot be read; the message names it and says why."""


def find_images(paths: Iterable[str | os.PathLike]) -> Iterator[pathlib.Path]:
    """Yields the files named, and the images below the folders named, sorted."""
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            yield from filter(is_image_name, sorted(path.rglob("*")))
        else:
            yield path


def to_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W] or [H, W, 3] -> [H, W, 3]: gray is repeated."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def is_image_name(path: pathlib.Path) -> bool:
    """Whether a file is called like an image; a Mac's ._face.jpg is none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Returns uint8 [H, W] for a gray image, RGB uint8 [H, W, 3] for another.

    Raises:
      ImageError: not an image, damaged, cut off, too large, animated or of floating
        point.
    """
    return _read(path, str(path))


def decode_image(data: bytes, max_pixels: int) -> np.ndarray:
    """As `read_image`, of a file's bytes; its pixels are counted before it is decoded.

    Raises:
      ImageError: as `read_image`, or it has more than `max_pixels`.
    """
    return _read(io.BytesIO(data), "the image", max_pixels)


def _read(
    file: str | os.PathLike | io.BytesIO, name: str, max_pixels: float = math.inf
) -> np.ndarray:
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"{name}: {image.width} x {image.height} pixels, more than "
                    f"{max_pixels:,}"
                )
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise ImageError(f"{name}: an animation of {image.n_frames} frames")
            # A PGM file of 16 bits is opened as 32.
            if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
                kind = "floating-point" if image.mode == "F" else "32-bit"
                raise ImageError(f"{name}: {kind} pixels, of no known range")
            return _to_uint8(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except Exception as error:  # Pillow raises nearly anything for a damaged file.
        raise ImageError(f"{name}: not a whole image ({error})") from None


def _to_uint8(image: Image.Image) -> np.ndarray:
    if image.mode == "L" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow keeps in several modes
        pixels = np.asarray(image).astype(np.int64).clip(0, 65535)
        return np.rint(pixels / 257).astype(np.uint8)
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    pixels = np.asarray(image.convert("RGB"))
    if (pixels == pixels[:, :, :1]).all():
        return np.ascontiguousarray(pixels[:, :, 0])
    return pixels
