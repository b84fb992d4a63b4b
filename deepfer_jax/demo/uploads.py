"""Receives the bodies of requests: whole, in time, and not too much of all together.

    uploads = Uploads()
    image = await uploads.receive(request)        # raises Refused

A body is an image as it is, or a form with a file in it (`curl -F file=@photo.jpg`).
"""

import asyncio
import re
import time

from starlette.requests import Request

from deepfer_jax.demo import limits
from deepfer_jax.demo.decoding import Refused
from deepfer_jax.demo.pace import Pace

_FORM_BYTES = 4096  # that a form may have around its file
_MAX_PARTS = 20


class Uploads:
    """The bodies that are being received."""

    def __init__(self):
        self._unfinished: dict[int, bytearray] = {}  # by id; the oldest first
        self._pace = Pace()

    async def receive(self, request: Request) -> bytearray:
        """Returns the image in a request's body.

        Raises:
          Refused: the body's length is not known or too great, it does not come in
            time, or it is a form without a file.
        """
        self._check_length(request)
        body = await self._receive(request)
        kind = request.headers.get("content-type", "")
        if kind.lower().startswith("multipart/form-data"):
            body = find_file(body, kind)
        if len(body) > limits.MAX_BYTES:
            raise too_many_bytes()
        return body

    def _check_length(self, request: Request) -> None:
        length = request.headers.get("content-length", "")
        # A body in chunks may have one of each byte, and each costs as much as a
        # kilobyte does.
        if "transfer-encoding" in request.headers or not length.isdecimal():
            raise Refused("length_required", "the Content-Length must be told", 411)
        if int(length) > limits.MAX_BYTES + _FORM_BYTES:
            raise too_many_bytes()

    async def _receive(self, request: Request) -> bytearray:
        body, parts = bytearray(), request.stream()
        self._unfinished[id(body)] = body
        end = time.monotonic() + limits.UPLOAD_SECONDS
        try:
            while True:
                left = min(limits.PAUSE_SECONDS, end - time.monotonic())
                async with asyncio.timeout(left):
                    part = await anext(parts, None)
                if id(body) not in self._unfinished:
                    raise TimeoutError
                if part is None:
                    return body
                body += part
                self._make_room()
                await self._pace.wait(len(part) / limits.UPLOAD_BYTES_RATE)
        except TimeoutError:
            raise Refused("timeout", "the body did not come in time", 408) from None
        finally:
            self._unfinished.pop(id(body), None)

    def _make_room(self) -> None:
        """Gives up the oldest, which is the slowest, if there is too much of all."""
        while sum(map(len, self._unfinished.values())) > limits.UPLOAD_BYTES:
            self._unfinished.pop(next(iter(self._unfinished))).clear()


def too_many_bytes() -> Refused:
    text = f"an image of more than {limits.MAX_BYTES:,} bytes"
    return Refused("too_large", text, 413)


def find_file(body: bytearray, content_type: str) -> bytearray:
    """The first file of a form.

    Args:
      body: of multipart/form-data (RFC 7578).
      content_type: the header, which names the boundary.

    Raises:
      Refused: there is none.
    """
    match = re.search(r'boundary="?([^";,\s]{1,70})', content_type, re.IGNORECASE)
    if match:
        mark = b"--" + match[1].encode("latin-1")
        start = body.find(mark)
        for _ in range(_MAX_PARTS):
            stop = body.find(b"\r\n\r\n", start, start + _FORM_BYTES)
            end = body.find(b"\r\n" + mark, stop + 4)
            if start < 0 or stop < 0 or end < 0:
                break
            if b"filename=" in body[start:stop].lower():
                return body[stop + 4 : end]
            start = end + 2
    raise Refused(
        "no_file", "a form without a file: send one as curl -F file=@photo.jpg does"
    )
