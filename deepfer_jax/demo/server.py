"""The demo's server: a page, a stream of camera frames, and one picture at a time.

    app = create_app(Analyzer(), allowed_hosts=["localhost"])
    uvicorn.run(app, **connections.options())

    GET  /             the page
    GET  /healthz      {"status": "ok", ...}
    POST /v1/analyze   an image in, JSON out; or a form with a file; with ?explain=1
                       also why
    GET  /openapi.json what that takes and gives
    WS   /v1/stream    JPEG frames in, one JSON for each that is answered

Errors are {"error": text, "code": code}; `openapi.json` lists the codes. Nothing is
kept but the smoothed probabilities of the faces in view, as long as a stream lasts.

Clients may be hostile: whatever one does, others are answered soon, memory stays
bounded and the server can be stopped. What does what, and enforces which limit
(`limits` has their numbers):

    connections   event loop. uvicorn's protocols: how many connections, seconds for a
                  head, a message and for reading answers, bytes of unfinished messages
                  of all, small messages a second
    guard         event loop. Host, Origin, token, headers, what fails
    uploads       event loop. Bodies: length told first, seconds, bytes of all
    stream        event loop. How many streams; each has one frame under way and one,
                  the newest, that waits
    reading       threads. Frames, photographs and new sizes in queues of their own, by
                  fair turns; what finds one full is answered 503 at once
    decoding,     processes. Pixels, memory and seconds of an image; JPEG, PNG and WebP
    decoder       alone, walked through by `image_headers` first

The event loop neither decodes nor reads. A thread that reads cannot be interrupted, but
reads arrays of a bounded size; what takes an unknown time is in processes, which are
killed. Only one thread meets a size for the first time, so one program is compiled at a
time, and frames are answered meanwhile.
"""

import asyncio
import contextlib
import mimetypes
import pathlib
import time
from collections.abc import AsyncIterator, Collection

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

import deepfer_jax
from deepfer_jax.demo import limits
from deepfer_jax.demo.guard import Guard
from deepfer_jax.demo.reading import Client, Readers, busy
from deepfer_jax.demo.stream import Streams, describe
from deepfer_jax.demo.uploads import Uploads
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.explain import to_data_uri

_PAGE = pathlib.Path(__file__).parent / "page"
LOCAL = ("localhost", "127.0.0.1", "::1")


def create_app(
    analyzer: Analyzer,
    allowed_hosts: Collection[str] = LOCAL,
    token: str | None = None,
    readers: Readers | None = None,
) -> Starlette:
    """Returns the ASGI application of one model, for any number of clients.

    Args:
      analyzer: finds and reads faces.
      allowed_hosts: names that clients may call the server by, without ports; beside
        the address that they connect to.
      token: what they must know, as `Authorization: Bearer` or `?token=`; if any.
      readers: of the analyzer, if there are some already.
    """
    readers = readers or Readers(analyzer)
    uploads = Uploads()

    async def health(request: Request) -> Response:
        del request
        return JSONResponse(
            {
                "status": "ok",
                "version": deepfer_jax.__version__,
                "classes": analyzer.classes,
                "threshold": analyzer.threshold,
            }
        )

    async def analyze(request: Request) -> Response:
        explain = request.query_params.get("explain") == "1"
        data = await uploads.receive(request)
        started = time.perf_counter()
        try:
            with readers.waiting.hold(len(data)):
                async with asyncio.timeout(limits.WAIT_SECONDS):
                    reading = await readers.read_photo(Client(), bytes(data), explain)
        except TimeoutError:
            raise busy() from None
        faces = [face.as_dict(analyzer.classes) for face in reading.faces]
        for face, picture in zip(faces, reading.explanations, strict=False):
            face["explanation"] = to_data_uri(picture)
        answer = describe(reading, faces)
        answer["milliseconds"] = round(1e3 * (time.perf_counter() - started), 2)
        return JSONResponse(answer)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        readers.start()
        yield
        readers.close()

    pages = {"/": "index.html"} | {
        f"/{path.relative_to(_PAGE)}": str(path.relative_to(_PAGE))
        for path in sorted(_PAGE.rglob("*.*"))
    }
    return Starlette(
        routes=[
            Route("/healthz", health),
            Route("/v1/analyze", analyze, methods=["POST"]),
            WebSocketRoute("/v1/stream", Streams(analyzer, readers).serve),
            *(Route(path, _make_page(name)) for path, name in pages.items()),
        ],
        middleware=[Middleware(Guard, allowed_hosts=allowed_hosts, token=token)],
        exception_handlers={HTTPException: _answer_error},  # type: ignore[dict-item]
        lifespan=lifespan,
    )


def _make_page(name: str):
    content = (_PAGE / name).read_bytes()
    kind = mimetypes.guess_type(name)[0]

    async def page(request: Request) -> Response:
        del request
        return Response(content, media_type=kind)

    return page


async def _answer_error(request: Request, error: HTTPException) -> Response:
    del request
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "error")
    content = {"error": error.detail, "code": code}
    return JSONResponse(content, error.status_code, error.headers)
