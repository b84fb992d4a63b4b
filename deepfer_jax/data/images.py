"""Reads image files of any kind as uint8 gray or RGB, or says which one it cannot read.

    image = read_image("face.jpg")               # uint8 [H, W] or RGB [H, W, 3]
    face = fit_face(image, (48, 48, 1))          # inference.py: to a network's input

Upright by the EXIF rotation; palettes, CMYK and one-bit images are converted;
transparent pixels are laid over white; 16-bit gray is scaled to 8 bits. Of a phone's
photo with a preview or a second view behind it (MPO) the first is read. Refused:
animations (which frame would be the face?), floating-point and 32-bit images (which
value would be white?), damaged and cut-off files, and files built to take minutes or
gigabytes (`image_headers`). Needs Pillow and numpy alone.
"""

import contextlib
import io
import math
import os
import pathlib
import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from deepfer_jax.data.image_headers import (
    Header,
    ImageError,
    TooManyPixelsError,
    find_kind,
    read_header,
)

SUFFIXES = {
    ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm",
    ".tif", ".tiff", ".webp",
}  # fmt: skip
# Pillow opens more, some by starting other programs (EPS).
KINDS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# What browsers and cameras send.
WEB_KINDS = ("JPEG", "PNG", "WEBP")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAX_COUNTED = 100  # frames of an animation


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
      ImageError: not an image, damaged, cut off, too large, animated, of floating
        point, or built so that decoding it could take minutes or gigabytes.
    """
    with _named(str(path)):
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would hang
            raise ImageError("not a file")
        with open(path, "rb") as file:
            image, header = _open(file.read(), math.inf, KINDS)
        return _to_uint8(_turn(image, header))


def decode_image(
    data: bytes, max_pixels: float, kinds: Collection[str] = KINDS
) -> np.ndarray:
    """As `read_image`, of a file's bytes; its pixels are counted before it is decoded.

    Raises:
      ImageError: as `read_image`, or it has more than `max_pixels`, or is of a kind
        that is not in `kinds`.
    """
    with _named("the image"):
        image, header = _open(data, max_pixels, kinds)
        return _to_uint8(_turn(image, header))


class Photo(NamedTuple):
    """A photograph, made smaller.

    Attributes:
      pixels: uint8 [H, W, 3], RGB.
      width: of the file, upright, in pixels.
      height: likewise.
    """

    pixels: np.ndarray
    width: int
    height: int


def decode_photo(
    data: bytes, max_pixels: float, longest: int, kinds: Collection[str] = KINDS
) -> Photo:
    """A file's bytes as a photo whose longer side is at most `longest` pixels.

    Made smaller while it is decoded, or at once after: that takes much less time and
    memory than the whole does.

    Raises:
      TooManyPixelsError: it has more than `max_pixels`.
      ImageError: as `decode_image`.
    """
    with _named("the image"):
        image, header = _open(data, max_pixels, kinds)
        width, height = image.size
        scale = max(width, height) / longest
        if scale > 1:
            size = (max(1, round(width / scale)), max(1, round(height / scale)))
            image.draft(None, size)  # of a JPEG: a half, a quarter or an eighth
            image = _convert(image).resize(size, Image.Resampling.BOX)
        if header.orientation > 4:
            width, height = height, width
        image = _turn(image, header)
        if image.mode in ("RGB", "YCbCr", "CMYK") and not _has_alpha(image):
            return Photo(np.asarray(image.convert("RGB")), width, height)
        return Photo(to_rgb(_to_uint8(image)), width, height)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Makes an ImageError that names the file of whatever is raised."""
    try:
        yield
    except ImageError as error:
        raise type(error)(f"{name}: {error}") from None
    except MemoryError:
        raise ImageError(f"{name}: decoding it takes too much memory") from None
    except Exception as error:  # Pillow raises nearly anything for a damaged file.
        # Some of its messages show where in memory an object is.
        why = re.sub(r"<[^<>]* at 0x[0-9a-f]+>", "the file", str(error))
        raise ImageError(f"{name}: not a whole image ({why})") from None


def _open(
    data: bytes, max_pixels: float, kinds: Collection[str]
) -> tuple[Image.Image, Header]:
    """An image whose header has been read, and nothing of its pixels."""
    kind = find_kind(data)
    if kind not in kinds:
        raise ImageError(f"a {kind} file: expected {', '.join(kinds)}")
    header = read_header(data)
    _check_size(*header.size, max_pixels)
    if header.num_frames > 1:
        raise ImageError(f"an animation of {header.num_frames} frames")
    image = Image.open(io.BytesIO(header.data), formats=(kind,))
    _check_size(*image.size, max_pixels)
    if kind == "GIF" and getattr(image, "is_animated", False):
        raise ImageError(f"an animation of {_count_frames(image)} frames")
    # A PGM file of 16 bits is opened as 32.
    if image.mode == "F" or (image.mode == "I" and kind == "TIFF"):
        what = "floating-point" if image.mode == "F" else "32-bit"
        raise ImageError(f"{what} pixels, of no known range")
    return image, header


def _check_size(width: int, height: int, max_pixels: float) -> None:
    if width * height > max_pixels:
        raise TooManyPixelsError(f"{width} x {height} pixels, more than {max_pixels:,}")


def _count_frames(image: Image.Image) -> str:
    """How many frames a GIF has, as far as it is worth the time to count them."""
    for number in range(_MAX_COUNTED):
        try:
            image.seek(number)
        except EOFError:
            return str(number)
    return f"{_MAX_COUNTED} or more"


def _turn(image: Image.Image, header: Header) -> Image.Image:
    way = _UPRIGHT.get(header.orientation)
    return image if way is None else image.transpose(way)


def _has_alpha(image: Image.Image) -> bool:
    return (
        image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info
    )


def _convert(image: Image.Image) -> Image.Image:
    """To a mode whose pixels can be averaged."""
    if image.mode.startswith("I"):
        return Image.fromarray(_to_uint8(image))
    if _has_alpha(image):
        return image.convert("RGBA")
    return image if image.mode in ("L", "CMYK") else image.convert("RGB")


def _to_uint8(image: Image.Image) -> np.ndarray:
    if image.mode == "L" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow keeps in several modes
        pixels = np.asarray(image).clip(0, 65535).astype(np.uint16)
        # Rounded; and no array of more than 16 bits, for photographs are large.
        return (pixels // 257 + (pixels % 257 > 128)).astype(np.uint8)
    if _has_alpha(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    pixels = np.asarray(image.convert("RGB"))
    if (pixels == pixels[:, :, :1]).all():
        return np.ascontiguousarray(pixels[:, :, 0])
    return pixels
