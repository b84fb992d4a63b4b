"""Images that are built to cost a decoder minutes or gigabytes, a few kilobytes each.

for item in make_hostile():
    decode_image(item.data, 24_000_000)       # refuses it at once
"""

import functools
import struct
import zlib

import numpy as np
from measuring.bad_inputs import Input, encode
from PIL import Image

_LARGE = (6000, 4000)


@functools.cache
def make_hostile() -> tuple[Input, ...]:
    """One of each kind; some may be read, if that costs little."""
    return (
        Input("JPEG of 2,000 scans", _make_scans()),
        Input("JPEG of fill bytes", b"\xff\xd8" + b"\xff" * 9_900_000),
        Input("JPEG of comments", b"\xff\xd8" + b"\xff\xfe\0\2" * 2_400_000),
        Input("JPEG whose EXIF claims much", _make_exif(), False),
        Input("PNG of empty chunks", _make_chunks()),
        Input("PNG of 24 megapixels", encode(Image.new("RGBA", _LARGE), "PNG"), None),
        Input("WebP of a large canvas", _make_canvas()),
        Input("TIFF of 86,000 directories", _make_directories(86_000)),
        Input("TIFF of one large tile", _make_tile(20_000)),
        Input("TIFF whose tags claim much", _make_tags()),
        Input("PGM of comments", b"P2\n24 24\n255\n" + b"#\n" * 4_900_000),
        Input("PPM of 254 levels", b"P6\n3000 3000\n254\n" + bytes(9_000_000)),
    )


def _make_scans() -> bytes:
    """24 megapixels, and the last of its scans, which says nothing, again and again."""
    data = encode(Image.new("L", _LARGE), progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * 2000 + data[-2:]


def _make_exif() -> bytes:
    """A face whose EXIF has 5,000 tags that are each as long as all of it."""
    num = 5000
    entries = b"".join(struct.pack("<HHII", i + 1, 7, 60_000, 0) for i in range(num))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, num) + entries + bytes(4)
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    data = encode(np.full((60, 80, 3), 128, np.uint8))
    return data[:2] + segment + data[2:]


def _make_chunks() -> bytes:
    data = encode(Image.new("L", (8, 8)), "PNG")
    chunk = struct.pack(">I4sI", 0, b"teSt", zlib.crc32(b"teSt"))
    return data[:33] + chunk * 800_000 + data[33:]


def _make_canvas() -> bytes:
    """Two frames of a pixel on a canvas of a gigabyte."""
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    place = data.index(b"VP8X") + 12
    side = struct.pack("<I", 16_382)[:3]
    return data[:place] + side + side + data[place + 6 :]


def _make_tiff(*directories: list[tuple[int, int, int, int]]) -> bytes:
    """A TIFF of directories of tags: (tag, type, count, value)."""
    parts, offset = [b"II*\0" + struct.pack("<I", 8)], 8
    for i, tags in enumerate(directories):
        offset += 2 + 12 * len(tags) + 4
        after = offset if i + 1 < len(directories) else 0
        parts.append(struct.pack("<H", len(tags)))
        parts += [struct.pack("<HHII", *tag) for tag in tags]
        parts.append(struct.pack("<I", after))
    return b"".join(parts)


def _make_directories(num: int) -> bytes:
    return _make_tiff(*[[(256, 4, 1, 8), (257, 4, 1, 8)]] * num)


def _make_tile(side: int) -> bytes:
    """A gray picture of 8 x 8 pixels, deflated, in a tile of side x side."""
    tile = zlib.compress(bytes(side * side), 9)
    tags = [
        (256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
        (277, 3, 1, 1), (322, 4, 1, side), (323, 4, 1, side),
        (324, 4, 1, 8 + 2 + 12 * 10 + 4), (325, 4, 1, len(tile)),
    ]  # fmt: skip
    return _make_tiff(tags) + tile


def _make_tags() -> bytes:
    """3,000 tags that are each as long as the file."""
    size = 9_000_000
    return _make_tiff([(i + 1, 7, size, 8) for i in range(3000)]) + bytes(size)
