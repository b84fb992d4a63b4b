"""Looks at how an image file is built before anything decodes it, in bounded time.

    header = read_header(data)        # kind, data, orientation, num_frames, pixels

A decoder trusts a file: it follows every directory, joins every comment and runs
through every scan, so that a small file can cost minutes or gigabytes. Here each file
is walked once, at most so many parts of it, and what could cost that much is refused.
Of JPEG and PNG, only the parts that hold pixels are handed on, so that no decoder sees
metadata; the EXIF rotation is read here.
"""

import re
import struct
from typing import NamedTuple

from deepfer_jax.errors import UserError

_MAX_PARTS = 20_000  # segments of a JPEG, chunks of a PNG or a WebP
# A camera writes 1 scan, a progressive file about 10; each runs over all pixels.
_MAX_SCANS = 32
_MAX_DIRECTORIES = 100  # of a TIFF
_MAX_ENTRIES = 4096  # of all of them
# Pixels of a PPM that Pillow reads one by one, in Python.
_MAX_SLOW_PIXELS = 2**20
_MAX_COMMENTS = 100

_ORIENTATION = 0x0112


class ImageError(UserError):
    """An image file that cannot be read; the message names it and says why."""


class TooManyPixelsError(ImageError):
    """It has more than the caller takes."""


class Header(NamedTuple):
    """What is known of a file before it is decoded.

    Attributes:
      kind: as Pillow calls it.
      data: the file, or what of it a decoder needs.
      orientation: 1 to 8 as in EXIF, what is still to be turned.
      num_frames: how many pictures; more than one is an animation.
      size: (width, height) of a WebP, whose decoder takes memory when it is opened.
    """

    kind: str
    data: bytes
    orientation: int = 1
    num_frames: int = 1
    size: tuple[int, int] = (0, 0)


def find_kind(data: bytes) -> str:
    """The kind of a file by its first bytes.

    Raises:
      ImageError: none that is known.
    """
    for kind, pattern in _KINDS.items():
        if re.match(pattern, data, re.DOTALL):
            return kind
    raise _damaged("of no known kind")


def read_header(data: bytes) -> Header:
    """Walks through the file of one image.

    Raises:
      ImageError: damaged, or built so that decoding it could cost too much; the
        message does not name the file.
    """
    kind = find_kind(data)
    read = _READERS.get(kind)
    try:
        return read(data) if read else Header(kind, data)
    except (struct.error, IndexError):
        raise _damaged("cut off") from None


def _damaged(why: str) -> ImageError:
    return ImageError(f"not a whole image ({why})")


_KINDS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8",
    "BMP": rb"BM",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "PPM": rb"P[0-6fy]",
}

_MARKER = re.compile(rb"\xff{1,16}([^\xff])", re.DOTALL)
# In a scan, FF is data if a zero or the number of a restart follows.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)


def _read_jpeg(data: bytes) -> Header:
    kept, position, orientation, num_scans = [data[:2]], 2, 1, 0
    for _ in range(_MAX_PARTS):
        match = _MARKER.match(data, position)
        if match is None:
            raise _damaged("no JPEG marker where one should be")
        marker, position = match[1][0], match.end()
        if marker == 0xD9:  # what comes after the end is another picture's (MPO)
            return Header("JPEG", b"".join([*kept, b"\xff\xd9"]), orientation)
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        segment = data[position : position + length]
        if length < 2 or len(segment) < length:
            raise _damaged("cut off")
        position += length
        if marker == 0xE1 and segment[2:8] == b"Exif\0\0":
            orientation = _read_orientation(segment[8:])
        # Of the others than pixels, only JFIF's and Adobe's say what colours are.
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or marker in (0xE0, 0xEE):
            kept += [bytes((0xFF, marker)), segment]
        if marker == 0xDA:
            num_scans += 1
            if num_scans > _MAX_SCANS:
                raise ImageError(f"a JPEG of more than {_MAX_SCANS} scans")
            end = _END_OF_SCAN.search(data, position)
            stop = end.start() if end else len(data)
            kept.append(data[position:stop])
            position = stop
            if end is None:  # cut off: how much of it is missing, the decoder says
                return Header("JPEG", b"".join(kept), orientation)
    raise ImageError(f"a JPEG of more than {_MAX_PARTS:,} segments")


def _read_png(data: bytes) -> Header:
    kept, position, orientation, num_frames = [data[:8]], 8, 1, 1
    for _ in range(_MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise _damaged("cut off")
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(data[position:end])
        elif kind == b"acTL":
            (num_frames,) = struct.unpack_from(">I", data, position + 8)
        elif kind == b"eXIf":
            orientation = _read_orientation(data[position + 8 : end - 4])
        position = end
        if kind == b"IEND":
            return Header("PNG", b"".join(kept), orientation, num_frames)
    raise ImageError(f"a PNG of more than {_MAX_PARTS:,} chunks")


def _read_webp(data: bytes) -> Header:
    position, orientation, num_frames, size = 12, 1, 0, (0, 0)
    for _ in range(_MAX_PARTS):
        if position + 8 > len(data):
            return Header("WEBP", data, orientation, max(num_frames, 1), size)
        kind, length = struct.unpack_from("<4sI", data, position)
        start = position + 8
        if kind == b"VP8X":
            low, high, low2, high2 = struct.unpack_from("<HBHB", data, start + 4)
            size = (1 + low + (high << 16), 1 + low2 + (high2 << 16))
        elif kind == b"VP8 " and size == (0, 0):
            size = tuple(x & 0x3FFF for x in struct.unpack_from("<HH", data, start + 6))
        elif kind == b"VP8L" and size == (0, 0):
            (bits,) = struct.unpack_from("<I", data, start + 1)
            size = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
        elif kind == b"ANMF":
            num_frames += 1
        elif kind == b"EXIF":
            exif = data[start : start + length].removeprefix(b"Exif\0\0")
            orientation = _read_orientation(exif)
        position = start + length + length % 2
    raise ImageError(f"a WebP of more than {_MAX_PARTS:,} chunks")


def _read_orientation(exif: bytes) -> int:
    """The rotation that an EXIF block gives, 1 (none) if it gives none that is known.

    Only this one entry is looked for: in a hostile block each of thousands of others
    may claim the whole file as its value.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (num,) = struct.unpack_from(order + "H", exif, offset)
        for i in range(min(num, _MAX_ENTRIES)):
            tag, kind, count, value = struct.unpack_from(
                order + "HHIH", exif, offset + 2 + 12 * i
            )
            if (tag, kind, count) == (_ORIENTATION, 3, 1):
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4}
_TYPE_BYTES |= {12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# Of directories below others: SubIFDs, EXIF, GPS, interoperability.
_BELOW = (0x014A, 0x8769, 0x8825, 0xA005)


def _read_tiff(data: bytes) -> Header:
    """Follows the directories; Pillow turns a TIFF upright itself."""
    order = "<" if data[:2] == b"II" else ">"
    big = b"+" in data[2:4]
    at, num_format, entry = (8, "Q", "HHQ") if big else (4, "H", "HHI")
    offset_format, step = ("Q", 20) if big else ("I", 12)
    waiting = [(struct.unpack_from(order + offset_format, data, at)[0], True)]
    num_frames = num_directories = num_entries = total = 0
    first = {}
    while waiting:
        offset, is_picture = waiting.pop()
        num_directories += 1
        if num_directories > _MAX_DIRECTORIES:
            raise ImageError(f"a TIFF of more than {_MAX_DIRECTORIES} directories")
        num_frames += is_picture
        (num,) = struct.unpack_from(order + num_format, data, offset)
        num_entries += num
        if num_entries > _MAX_ENTRIES:
            raise ImageError(f"a TIFF of more than {_MAX_ENTRIES} tags")
        start = offset + struct.calcsize("=" + num_format)
        for position in range(start, start + num * step, step):
            tag, kind, count = struct.unpack_from(order + entry, data, position)
            total += _TYPE_BYTES.get(kind, 1) * count
            value_format = order + {3: "H", 4: "I", 13: "I"}.get(kind, offset_format)
            (value,) = struct.unpack_from(
                value_format, data, position + struct.calcsize("=" + entry)
            )
            if tag in _BELOW:
                waiting.append((value, False))
            elif num_frames == 1 and is_picture:
                first[tag] = value
        if is_picture:
            (after,) = struct.unpack_from(
                order + offset_format, data, start + num * step
            )
            waiting += [(after, True)] if after else []
    if total > len(data):
        raise _damaged("its tags claim more bytes than it has")
    _check_tiles(first)
    return Header("TIFF", data, num_frames=num_frames)


def _check_tiles(tags: dict[int, int]) -> None:
    width, height, tile_width, tile_height = (
        tags.get(tag, 0) for tag in (0x0100, 0x0101, 0x0142, 0x0143)
    )
    if tile_width * tile_height > 2 * width * height + 2**20:
        raise ImageError(
            f"a TIFF of {width} x {height} pixels in tiles of "
            f"{tile_width} x {tile_height}"
        )


_PPM = re.compile(rb"P([0-6fy])\w*" + 3 * rb"(?:(?:\s|#[^\n\r]*[\n\r])+(\d{1,9}))?")


def _read_ppm(data: bytes) -> Header:
    match = _PPM.match(data[:4096])
    if match is None:
        raise ImageError("the header of the PPM is damaged")
    kind, *numbers = match.groups()
    width, height, most = (int(x or 0) for x in numbers)
    is_plain = kind in b"123"
    if is_plain and data.count(b"#") > _MAX_COMMENTS:
        raise ImageError(f"a PPM of more than {_MAX_COMMENTS} comments")
    is_slow = is_plain or (kind in b"56" and most not in (255, 65535))
    # Without a size that is found within 4096 bytes, Pillow would still look for one.
    if kind in b"123456" and not width * height:
        raise _damaged("no size at its start")
    if is_slow and width * height > _MAX_SLOW_PIXELS:
        raise ImageError(
            f"{width} x {height} pixels of a PPM as text, or of {most} levels; more "
            f"than {_MAX_SLOW_PIXELS:,} are read with 255 or 65535 levels only"
        )
    return Header("PPM", data)


_READERS = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "WEBP": _read_webp,
    "TIFF": _read_tiff,
    "PPM": _read_ppm,
}
