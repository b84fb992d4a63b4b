"""The demo's server: a page, a stream of camera frames, and one picture at a time.

    app = create_app(Analyzer())

    GET  /             the page
    GET  /healthz      {"status": "ok", ...}
    POST /v1/analyze   an image in, JSON out
    GET  /openapi.json what that takes and gives
    WS   /v1/stream    JPEG frames in, one JSON for each that is answered

On the stream the newest frame wins: one that comes while another is being read takes
the place of the one that waits. Nothing is kept but the smoothed probabilities of the
faces in view, as long as the connection lasts.
"""

import asyncio
import functools
import json
import pathlib
import time
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

import deepfer_jax
from deepfer_jax.data.images import ImageError, decode_image, to_rgb
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.photos import find_faces
from deepfer_jax.faces.tracking import Tracker

_PAGE = pathlib.Path(__file__).parent / "page"
MAX_BYTES = 10_000_000
MAX_PIXELS = 24_000_000
_MAX_SMOOTHING = 5.0


class BadMessage(ValueError):  # noqa: N818 (an answer, not a failure)
    """What a client sent cannot be used; the text says why."""


def create_app(analyzer: Analyzer) -> Starlette:
    """Returns the ASGI application of one model, for any number of clients."""

    async def health(request: Request) -> JSONResponse:
        del request
        return JSONResponse(
            {
                "status": "ok",
                "version": deepfer_jax.__version__,
                "classes": analyzer.classes,
                "threshold": analyzer.threshold,
            }
        )

    async def analyze(request: Request) -> JSONResponse:
        try:
            data = await _read_body(request)
            started = time.perf_counter()
            frame, faces = await asyncio.to_thread(read_faces, analyzer, data)
        except BadMessage as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        answer = describe(frame, [face.as_dict(analyzer.classes) for face in faces])
        answer["milliseconds"] = round(1e3 * (time.perf_counter() - started), 2)
        return JSONResponse(answer)

    async def description(request: Request) -> JSONResponse:
        del request
        return JSONResponse(json.loads((_PAGE / "openapi.json").read_text()))

    return Starlette(
        routes=[
            Route("/healthz", health),
            Route("/v1/analyze", analyze, methods=["POST"]),
            Route("/openapi.json", description),
            WebSocketRoute("/v1/stream", functools.partial(_stream, analyzer)),
            Mount("/", StaticFiles(directory=_PAGE, html=True)),
        ]
    )


async def _read_body(request: Request) -> bytes:
    """The body, unless it is too long: then it is not even received."""
    parts, total = [], 0
    async for part in request.stream():
        total += len(part)
        if total > MAX_BYTES:
            raise BadMessage(f"an image of more than {MAX_BYTES:,} bytes")
        parts.append(part)
    return b"".join(parts)


def read_faces(analyzer: Analyzer, data: bytes) -> tuple[np.ndarray, list[Face]]:
    """Decodes an image and finds its faces: (RGB uint8 [H, W, 3], faces).

    Raises:
      BadMessage: not an image that can be read, or too large.
    """
    if len(data) > MAX_BYTES:
        raise BadMessage(f"an image of more than {MAX_BYTES:,} bytes")
    try:
        frame = to_rgb(decode_image(data, MAX_PIXELS))
    except ImageError as error:
        raise BadMessage(str(error)) from None
    return frame, find_faces(analyzer, frame)


def describe(frame: np.ndarray, faces: list[dict[str, Any]]) -> dict[str, Any]:
    """What a client is told of a frame; boxes are in its pixels."""
    return {"width": frame.shape[1], "height": frame.shape[0], "faces": faces}


def is_same_origin(websocket: WebSocket) -> bool:
    """Whether the page that opened the stream is ours, or none (a program) did."""
    origin = websocket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == websocket.headers.get("host")


class _Newest:
    """The newest frame that has not been taken yet."""

    def __init__(self):
        self._item, self._is_there = None, asyncio.Event()

    def put(self, item: Any) -> None:
        self._item = item
        self._is_there.set()

    async def take(self) -> Any:
        await self._is_there.wait()
        self._is_there.clear()
        return self._item


async def _stream(analyzer: Analyzer, websocket: WebSocket) -> None:
    if not is_same_origin(websocket):
        await websocket.close(code=1008)
        return
    await websocket.accept()
    tracker = Tracker(analyzer.classes, analyzer.threshold)
    newest = _Newest()
    answering = asyncio.create_task(_answer(analyzer, tracker, newest, websocket))
    number = 0
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                break
            if message.get("bytes") is not None:
                number += 1
                newest.put((number, time.monotonic(), message["bytes"]))
                continue
            try:
                _change_settings(tracker, message.get("text") or "")
            except BadMessage as error:
                await websocket.send_json({"error": str(error)})
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        answering.cancel()


async def _answer(
    analyzer: Analyzer, tracker: Tracker, newest: _Newest, websocket: WebSocket
) -> None:
    """Answers the newest frame, again and again."""
    while True:
        number, received, data = await newest.take()
        started = time.perf_counter()
        try:
            frame, faces = await asyncio.to_thread(read_faces, analyzer, data)
        except BadMessage as error:
            answer = {"error": str(error)}
        else:
            tracks = tracker.update(faces, received)
            described = [
                {"track": t.number} | t.face.as_dict(analyzer.classes) for t in tracks
            ]
            answer = describe(frame, described)
            answer["milliseconds"] = round(1e3 * (time.perf_counter() - started), 2)
        try:
            await websocket.send_json(answer | {"frame": number})
        except (WebSocketDisconnect, RuntimeError):
            return


def _change_settings(tracker: Tracker, text: str) -> None:
    """Takes {"smoothing": seconds}.

    Raises:
      BadMessage: anything else.
    """
    expected = 'expected an image, or {"smoothing": seconds from 0 to 5}'
    try:
        settings = json.loads(text)
        seconds = settings["smoothing"]
    except (ValueError, TypeError, KeyError):
        raise BadMessage(f"{expected}, found {text[:80]!r}") from None
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if len(settings) > 1 or not is_number or not 0 <= seconds <= _MAX_SMOOTHING:
        raise BadMessage(f"{expected}, found {text[:80]!r}")
    tracker.time_constant = float(seconds)
