"""Middleware around the demo's application: who may ask, and what all answers have.

    Middleware(Guard, allowed_hosts=["localhost"], token=None)

The name in `Host` must be one that is known, or the address that was connected to:
else a page elsewhere can give its own name this address (DNS rebinding) and read the
answers. What another site's page asks is refused by its `Origin`. Answers carry the
headers that bind a browser to this origin. What nobody foresaw is logged, and answered
without its details.
"""

import hmac
import ipaddress
import logging
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from deepfer_jax.demo.decoding import Refused

_log = logging.getLogger(__name__)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: "
        "blob:; media-src blob:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/@?#\s]+)(:\d{1,5})?")


def to_response(error: Refused) -> JSONResponse:
    """{"error": text, "code": code}, of the error's status."""
    headers = {}
    if error.status == 503:
        headers["Retry-After"] = "2"
    if error.status in (408, 411):  # what is left of the body is not waited for
        headers["Connection"] = "close"
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    content = {"error": str(error), "code": error.code}
    return JSONResponse(content, error.status, headers)


def is_same_origin(headers: Headers) -> bool:
    """Whether the page that asks is ours, or none (a program) does."""
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False


class Guard:
    """See the module.

    Args:
      app: what is guarded.
      allowed_hosts: names and addresses, without ports.
      token: that who uses /v1 must know; None if nobody need.
    """

    def __init__(
        self, app: ASGIApp, allowed_hosts: Collection[str], token: str | None = None
    ):
        self._app, self._token = app, token
        self._hosts = {name.strip("[]").lower() for name in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"].endswith("response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, send_guarded)
        except (ClientDisconnect, WebSocketDisconnect):
            pass
        except Refused as error:
            await _refuse(scope, receive, send_guarded, error)
        except Exception:
            _log.exception("%s failed", scope["path"])
            failed = Refused("internal", "the server failed; its log says why", 500)
            if not started:
                await _refuse(scope, receive, send_guarded, failed)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1011, "reason": ""})

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if not self._is_allowed(headers.get("host", ""), scope.get("server")):
            raise Refused(
                "host_not_allowed",
                "this name is not known here: start the server with --allowed_hosts",
                403,
            )
        if not is_same_origin(headers):
            raise Refused("origin_not_allowed", "another site's page asks", 403)
        if self._token is not None and scope["path"].startswith("/v1/"):
            given = headers.get("authorization", "").removeprefix("Bearer ")
            given = given or QueryParams(scope["query_string"]).get("token", "")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                raise Refused("unauthorized", "the token is missing or wrong", 401)

    def _is_allowed(self, host: str, server: Any) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].strip("[]").lower()
        if name in self._hosts:
            return True
        try:  # an address, which is no name that could be given to another
            address = ipaddress.ip_address(name)
            return bool(server) and address == ipaddress.ip_address(server[0])
        except ValueError:
            return False


async def _refuse(scope: Scope, receive: Receive, send: Send, error: Refused) -> None:
    response = to_response(error)
    if scope["type"] == "http":
        await response(scope, receive, send)
        return
    websocket = WebSocket(scope, receive, send)
    if "websocket.http.response" in scope.get("extensions", {}):
        await websocket.send_denial_response(response)
    else:
        await websocket.close(1008)
