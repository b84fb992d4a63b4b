"""Decodes images in processes that can be ended, so that no image can hold the server.

    decoder = Decoder(max_pixels=24_000_000, memory=600 * 2**20, seconds=5.0)
    photo = decoder.decode(data)          # blocks; raises Refused
    decoder.end_if_late()                 # now and then, from another thread
    decoder.close()

A thread cannot be stopped while Pillow decodes, and takes the server's memory; a
process can be killed when its time is over, and the next image has a new one. Each
process costs about 40 MB and a fifth of a second to start.
"""

import contextlib
import json
import math
import mmap
import os
import pathlib
import struct
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np

from deepfer_jax.data.images import Photo
from deepfer_jax.demo import limits
from deepfer_jax.demo.decoder import ANSWER_BYTES

_START_SECONDS = 30.0
_PATIENCE = 3
_ROOT = pathlib.Path(__file__).parents[2]


class Refused(Exception):  # noqa: N818 (an answer, not a failure)
    """What a client sent cannot be used.

    Attributes:
      code: says why, and stays the same while the text may change.
      status: of HTTP.
    """

    def __init__(self, code: str, text: str, status: int = 400):
        super().__init__(text)
        self.code, self.status = code, status


def _share_memory(num_bytes: int) -> tuple[int, mmap.mmap | None]:
    """Memory that other processes see too, where the system has it, and its number.

    A frame's pixels would take a millisecond longer through a pipe.
    """
    if not hasattr(os, "memfd_create"):
        return -1, None
    fd = os.memfd_create("deepfer_jax pixels")
    os.ftruncate(fd, num_bytes)
    return fd, mmap.mmap(fd, num_bytes)


class Decoder:
    """One process, and the next when it has been ended.

    `decode` is called by one thread; `end_if_late` and `close` by any.

    Args:
      max_pixels: of an image.
      memory: addresses that the process may use, in bytes.
      seconds: of processor that an image may take; by the clock, `_PATIENCE` times.
      nice: how much the process gives way to others.
    """

    def __init__(self, max_pixels: int, memory: int, seconds: float, nice: int = 0):
        self._fd, self._shared = _share_memory(3 * min(max_pixels, limits.LONGEST**2))
        arguments = map(str, (max_pixels, memory, math.ceil(seconds), nice, self._fd))
        self._command = [sys.executable, "-m", "deepfer_jax.demo.decoder", *arguments]
        self._seconds = _PATIENCE * seconds
        self._process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._end = float("inf")
        self._is_closed = False

    def start(self) -> None:
        """Starts the process, unless it runs; returns before it is there."""
        with self._lock:
            is_there = self._process is not None and self._process.poll() is None
            if is_there or self._is_closed:
                return
            paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pipesize=2**20,  # a frame's pixels in one go, where the system can
                pass_fds=() if self._shared is None else (self._fd,),
                # Ctrl-C is the server's to handle.
                start_new_session=True,
                env=os.environ
                | {
                    "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                    # Its threads would take more memory than an image does.
                    "OPENBLAS_NUM_THREADS": "1",
                    # Of glibc: memory is kept from one frame to the next. To ask the
                    # system for it again takes a millisecond a frame.
                    "MALLOC_TRIM_THRESHOLD_": str(2**26),
                    "MALLOC_MMAP_THRESHOLD_": str(2**25),
                },
            )
            self._is_ready = False

    def decode(self, data: bytes) -> Photo:
        """Waits for the pixels of an image.

        Raises:
          Refused: it cannot be read, has too many pixels, or takes too long.
        """
        self.start()
        try:
            if not self._is_ready:
                self._end = time.monotonic() + _START_SECONDS
                self._receive()
                self._is_ready = True
            self._end = time.monotonic() + self._seconds
            self._write(struct.pack("<Q", len(data)))
            self._write(data)
            answer = self._receive()
            if "error" in answer:
                raise Refused(answer["code"], answer["error"])
            return Photo(self._receive_pixels(answer["shape"]), *answer["size"])
        except (OSError, EOFError, ValueError, AttributeError):
            self._kill()
            raise Refused(
                "too_costly",
                f"the image: it takes more than {self._seconds:g} s, or too much "
                "memory, to decode",
            ) from None
        finally:
            self._end = float("inf")

    def _receive(self) -> dict:
        answer = bytearray(ANSWER_BYTES)
        self._read_into(memoryview(answer))
        return json.loads(answer)

    def _receive_pixels(self, shape: list[int]) -> np.ndarray:
        if self._shared is not None:
            shared = np.frombuffer(self._shared, np.uint8, math.prod(shape))
            return shared.reshape(shape).copy()  # for the next image comes there too
        pixels = np.empty(shape, np.uint8)
        self._read_into(pixels.data.cast("B"))
        return pixels

    def _pipes(self) -> tuple[Any, Any]:
        """Of the process: what it reads, and what it writes."""
        if self._process is None:
            raise EOFError("the decoder has ended")
        return self._process.stdin, self._process.stdout

    def _read_into(self, view: memoryview) -> None:
        while len(view):
            num = self._pipes()[1].readinto(view)
            if not num:
                raise EOFError("the decoder has ended")
            view = view[num:]

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while len(view):
            view = view[self._pipes()[0].write(view) :]

    def end_if_late(self) -> None:
        """Kills the process if its image has had its time: `decode` then raises."""
        if time.monotonic() > self._end:
            self._kill_only()

    def _kill_only(self) -> None:
        process = self._process
        if process is not None:
            with contextlib.suppress(OSError):
                process.kill()

    def _kill(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            for file in filter(None, (process.stdin, process.stdout)):
                with contextlib.suppress(OSError):
                    file.close()
            process.wait()

    def close(self) -> None:
        """Ends the process, whatever it does, for good."""
        self._is_closed = True
        self._kill_only()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None
