"""A process that decodes images for the server, and can be ended at any moment.

    python -m deepfer_jax.demo.decoder MAX_PIXELS MEMORY SECONDS NICE SHARED

Takes on standard input the length of an image, 8 bytes, and the image; gives on
standard output an answer, JSON of ANSWER_BYTES, and then the pixels; these in memory
that is shared, the file descriptor SHARED, if that is not -1. The system ends it, or
refuses it memory, beyond MEMORY bytes of addresses and SECONDS of processor an image.
Imports Pillow and numpy alone, so that it is small and soon there. `decoding.py` is the
other end.
"""

import json
import mmap
import os
import struct
import sys
import time
import warnings
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, WebPImagePlugin  # noqa: F401 (else it is loaded with all others)

from deepfer_jax.data.images import (
    WEB_KINDS,
    ImageError,
    Photo,
    TooManyPixelsError,
    decode_photo,
)
from deepfer_jax.demo.limits import LONGEST

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows: there the server's clock alone limits it
    resource = None

ANSWER_BYTES = 512


def main(argv: list[str]) -> None:
    max_pixels, memory, seconds, nice, fd = map(int, argv)
    shared = None if fd < 0 else mmap.mmap(fd, os.fstat(fd).st_size)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if resource is not None:
        _give_way(nice)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _send(sink, {"ready": True})
    while head := source.read(8):
        (length,) = struct.unpack("<Q", head)
        data = source.read(length)
        if len(data) < length:
            return
        _limit_time(seconds)
        _decode(sink, shared, data, max_pixels)


def _give_way(nice: int) -> None:
    if nice and hasattr(os, "SCHED_BATCH"):
        # It works on while others sleep, and does not hold them up when they wake.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.nice(nice)


def _limit_time(seconds: int) -> None:
    """So many more seconds of processor, and the system ends this process."""
    if resource is not None:
        most = int(time.process_time()) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def _decode(
    sink: BinaryIO, shared: mmap.mmap | None, data: bytes, max_pixels: int
) -> None:
    """Answers {shape, size}, and pixels of that shape; or {code, error}."""
    try:
        photo = decode_photo(data, max_pixels, LONGEST, WEB_KINDS)
    except TooManyPixelsError as error:
        _send(sink, {"code": "too_large", "error": str(error)[:300]})
    except ImageError as error:
        _send(sink, {"code": "bad_image", "error": str(error)[:300]})
    else:
        _send_photo(sink, shared, photo)


def _send_photo(sink: BinaryIO, shared: mmap.mmap | None, photo: Photo) -> None:
    pixels = np.ascontiguousarray(photo.pixels)
    if shared is not None:
        np.frombuffer(shared, np.uint8, pixels.size)[:] = pixels.ravel()
    _send(sink, {"shape": pixels.shape, "size": (photo.width, photo.height)})
    if shared is None:
        sink.write(pixels.data)
        sink.flush()


def _send(sink: BinaryIO, answer: dict[str, Any]) -> None:
    sink.write(json.dumps(answer).encode().ljust(ANSWER_BYTES))
    sink.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
