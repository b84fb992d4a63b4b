"""A stream: a client's frames one after the other, and their faces, followed.

    await streams.serve(websocket)

The newest frame wins: one that comes while another is being read takes the place of
the one that waits.
"""

import asyncio
import json
import logging
import time
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from deepfer_jax.demo import limits
from deepfer_jax.demo.decoding import Refused
from deepfer_jax.demo.pace import Pace
from deepfer_jax.demo.reading import Budget, Client, Readers, Reading, busy
from deepfer_jax.demo.uploads import too_many_bytes
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.tracking import Tracker

_log = logging.getLogger(__name__)
_MAX_SMOOTHING = 5.0
_EXPECTED = 'expected an image, or {"smoothing": seconds from 0 to 5}'


class Streams:
    """All streams of a server.

    Args:
      analyzer: names the classes.
      readers: read the frames.
    """

    def __init__(self, analyzer: Analyzer, readers: Readers):
        self._analyzer, self._readers = analyzer, readers
        self._open: set[_Stream] = set()

    async def serve(self, websocket: WebSocket) -> None:
        """Serves one until it ends.

        Raises:
          Refused: there are too many, and none of them is silent.
        """
        self._make_room()
        stream = _Stream(websocket, self._analyzer, self._readers)
        self._open.add(stream)
        try:
            await stream.serve()
        finally:
            self._open.discard(stream)

    def _make_room(self) -> None:
        if len(self._open) < limits.MAX_STREAMS:
            return
        silent = min(self._open, key=lambda stream: stream.last)
        if time.monotonic() - silent.last < limits.SILENT_SECONDS:
            raise Refused("busy", "there are too many streams: try again later", 503)
        self._open.discard(silent)
        silent.end()


class _Newest:
    """The newest frame that has not been taken yet; a large one needs room."""

    def __init__(self, budget: Budget):
        self._budget = budget
        self._item: tuple[int, float, bytes] | None = None
        self._is_there = asyncio.Event()

    def put(self, number: int, received: float, data: bytes) -> None:
        """Raises Refused if there is no room; then the one before stays."""
        if not self._budget.take(_weigh(data)):
            raise busy()
        self.clear()
        self._item = (number, received, data)
        self._is_there.set()

    async def take(self) -> tuple[int, float, bytes]:
        """Who takes one frees its room."""
        await self._is_there.wait()
        self._is_there.clear()
        item, self._item = self._item, None
        assert item is not None
        return item

    def clear(self) -> None:
        if self._item is not None:
            self._budget.give(_weigh(self._item[2]))
        self._item = None
        self._is_there.clear()


def _take_seconds(data: bytes | None) -> float:
    """What a message may take of its stream's time; None: it is a text."""
    if data is None:
        return 1 / limits.TEXT_RATE
    return max(1 / limits.STREAM_RATE, len(data) / limits.STREAM_BYTES_RATE)


def _weigh(data: bytes) -> int:
    """The room that a frame needs: none for those as a camera sends them."""
    return len(data) if len(data) > limits.FRAME_BYTES else 0


class _Stream:
    """One client's.

    Attributes:
      last: when something came from it, by the monotonic clock.
    """

    def __init__(self, websocket: WebSocket, analyzer: Analyzer, readers: Readers):
        self._websocket, self._readers, self._client = websocket, readers, Client()
        self._classes = analyzer.classes
        self._tracker = Tracker(analyzer.classes, analyzer.threshold)
        self._size: tuple[int, int] | None = None
        self._newest = _Newest(readers.waiting)
        self.last = time.monotonic()
        self._tasks: list[asyncio.Task] = []

    async def serve(self) -> None:
        await self._websocket.accept()
        parts = (self._receive(), self._answer())
        self._tasks = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done() and not task.cancelled():
                    task.result()
        except WebSocketDisconnect:
            return
        finally:
            self.end()
            self._newest.clear()
        await self._websocket.close(1013)  # another took its place

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _receive(self) -> None:
        """Takes what comes, until the client leaves."""
        number, pace = 0, Pace()
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            self.last = time.monotonic()
            data, answer = message.get("bytes"), {}
            try:
                if data is None:
                    change_settings(self._tracker, message.get("text") or "")
                    continue
                number += 1
                answer = {"frame": number}
                if len(data) > limits.MAX_BYTES:
                    raise too_many_bytes()
                self._newest.put(number, self.last, data)
            except Refused as error:
                await self._send(_describe_error(error) | answer)
            finally:
                await pace.wait(_take_seconds(data))

    async def _answer(self) -> None:
        """Answers the newest frame, again and again."""
        while True:
            number, received, data = await self._newest.take()
            started = time.perf_counter()
            try:
                reading = await self._readers.read_frame(self._client, data)
                answer = self._describe(reading, received)
            except Refused as error:
                answer = _describe_error(error)
            except Exception:
                _log.exception("a frame of %d bytes failed", len(data))
                failed = Refused("internal", "the server failed; its log says why", 500)
                answer = _describe_error(failed)
            else:
                taken = time.perf_counter() - started
                answer["milliseconds"] = round(1e3 * taken, 2)
            finally:
                self._readers.waiting.give(_weigh(data))
            await self._send(answer | {"frame": number})

    async def _send(self, answer: dict[str, Any]) -> None:
        try:
            await self._websocket.send_json(answer)
        except (RuntimeError, OSError):  # of what is sent after the end
            raise WebSocketDisconnect(1006) from None

    def _describe(self, reading: Reading, received: float) -> dict[str, Any]:
        size = (reading.width, reading.height)
        if size != self._size:  # other coordinates, and most likely another picture
            self._tracker.forget()
            self._size = size
        faces = self._tracker.update(reading.faces, received)
        return describe(reading, [face.as_dict(self._classes) for face in faces])


def describe(reading: Reading, faces: list[dict[str, Any]]) -> dict[str, Any]:
    """What a client is told of an image; boxes are in its pixels."""
    return {"width": reading.width, "height": reading.height, "faces": faces}


def _describe_error(error: Refused) -> dict[str, Any]:
    return {"error": str(error), "code": error.code}


def change_settings(tracker: Tracker, text: str) -> None:
    """Takes {"smoothing": seconds}.

    Raises:
      Refused: anything else.
    """
    wrong = Refused("bad_message", f"{_EXPECTED}, found {text[:80]!r}")
    if len(text) > limits.MAX_TEXT:
        raise wrong
    try:
        settings = json.loads(text)
        seconds = settings["smoothing"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise wrong from None
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if len(settings) > 1 or not is_number or not 0 <= seconds <= _MAX_SMOOTHING:
        raise wrong
    tracker.time_constant = float(seconds)
