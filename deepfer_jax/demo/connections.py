"""uvicorn's protocols, with what they lack: deadlines, and limits of all together.

    uvicorn.run(create_app(analyzer), **connections.options())

A connection that overruns a deadline, or has to give way to others, is cut off. Which
one gives way, if there are too many, is the one that has kept others waiting longest: a
client that works has just asked, or just sent its message.
"""

import asyncio
import json
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)

from deepfer_jax.demo import limits

# So many bytes of what was received are parsed at once: a chunk or a fragment without
# content takes 6 of them and about 10 microseconds, and others wait meanwhile.
_SLICE = 1024
_MAX_SLICE = 16_384  # while they are all of one message
_CHECK_SECONDS = 1


def options() -> dict[str, Any]:
    """What `uvicorn.run` is to be called with, beside the application and address."""
    connections: set[_Watched] = set()

    class Http(HttpConnection):
        all = connections

    class Stream(StreamConnection):
        all = connections

    async def cut_off_late() -> None:
        now = time.monotonic()
        for connection in list(connections):
            if connection.is_late(now):
                connection.transport.abort()

    return {
        "http": Http,
        "ws": Stream,
        "ws_max_size": limits.MAX_BYTES,
        # A message of 10 kB could be one of 10 MB, and each stream takes memory for it.
        "ws_per_message_deflate": False,
        "ws_ping_interval": 20.0,
        "ws_ping_timeout": 20.0,
        "h11_max_incomplete_event_size": limits.HEAD_BYTES,
        "timeout_keep_alive": 5,
        "timeout_graceful_shutdown": limits.STOP_SECONDS,
        "callback_notify": cut_off_late,
        "timeout_notify": _CHECK_SECONDS,
        "proxy_headers": False,
        "server_header": False,
        # Of what clients do wrong; what the server does wrong, `guard` logs.
        "log_level": "critical",
    }


class _Watched(asyncio.Protocol):
    """What is common to both: since when it keeps others waiting, and for what."""

    all: set["_Watched"]
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.opened = time.monotonic()
        self._closing: float | None = None
        self._blocked: float | None = None
        self.all.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.all.discard(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._blocked = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._blocked = None
        super().resume_writing()

    def is_late(self, now: float) -> bool:
        """Whether its client has not read, or not let it close, in time."""
        if self.transport.is_closing() and self._closing is None:
            self._closing = now
        since = (x for x in (self._closing, self._blocked) if x is not None)
        return now - min(since, default=now) > limits.READ_SECONDS


class HttpConnection(_Watched, H11Protocol):
    """HTTP/1.1."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.all) > limits.MAX_CONNECTIONS:
            idle = (x for x in self.all if isinstance(x, HttpConnection) and x.is_idle)
            min(idle, key=lambda x: x.opened, default=self).transport.abort()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self.all.discard(self)  # a StreamConnection takes its place
        super().handle_websocket_upgrade(event)

    @property
    def is_idle(self) -> bool:
        """Whether it waits for its client to ask."""
        return self.cycle is None or self.cycle.response_complete

    def is_late(self, now: float) -> bool:
        # `opened` begins anew with each answer.
        most = limits.HEAD_SECONDS if self.is_idle else limits.REQUEST_SECONDS
        return now - self.opened > most or super().is_late(now)

    def data_received(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            if self.transport.is_closing() or self.transport.get_protocol() != self:
                return
            end = position + _SLICE if self.is_idle else len(data)
            super().data_received(data[position:end])
            position = end
            if not self.is_idle and "transfer-encoding" in self._header_names():
                # Refused by `uploads`; its chunks are not even looked at.
                self.transport.pause_reading()
                return

    def _header_names(self) -> set[str]:
        return {name.decode("latin-1") for name, _ in self.headers}

    def on_response_complete(self) -> None:
        self.opened = time.monotonic()
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            # Refused before it was there. Reading it would cost as much as taking it;
            # to close at once could lose the answer on its way.
            self.flow.pause_reading()
            self.loop.call_later(limits.LINGER_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        body = json.dumps({"error": msg, "code": "bad_request"}).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class StreamConnection(_Watched, WebSocketsSansIOProtocol):
    """WebSocket."""

    due = 0.0  # until when large messages of all have had their time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._unfinished_since: float | None = None
        self._small_left, self._small_at = float(limits.SMALL_BURST), self.opened

    @property
    def held(self) -> int:
        """Bytes of a message that is not finished."""
        return len(self.conn.reader.buffer) + sum(map(len, self.frames))

    def is_late(self, now: float) -> bool:
        since = self._unfinished_since
        if not self.handshake_complete:
            since = self.opened
        is_slow = since is not None and now - since > limits.MESSAGE_SECONDS
        return is_slow or super().is_late(now)

    def data_received(self, data: bytes) -> None:
        position, size = 0, _SLICE
        while position < len(data) and not self.transport.is_closing():
            self._has_events = False
            super().data_received(data[position : position + size])
            position += size
            size = _SLICE if self._has_events else min(2 * size, _MAX_SLICE)
        if not self.frames and not self.conn.reader.buffer:
            self._unfinished_since = None
            return
        self._unfinished_since = self._unfinished_since or time.monotonic()
        if self.held > limits.FRAME_BYTES:
            self._slow_down(len(data))
            self._make_room()

    def send_receive_event_to_app(self) -> None:
        self._unfinished_since = None  # the next has its own time
        super().send_receive_event_to_app()

    def _slow_down(self, num: int) -> None:
        """Reads on when so many bytes have had their time, after those of others."""
        now, streams = time.monotonic(), type(self)
        streams.due = max(now, streams.due) + num / limits.MESSAGE_BYTES_RATE
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()
            self.loop.call_later(streams.due - now, self._read_on)

    def _read_on(self) -> None:
        if self.read_paused and self.queue.empty() and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def _make_room(self) -> None:
        """Cuts off the oldest unfinished message if there is too much of all."""
        open_streams = [
            x
            for x in self.all
            if isinstance(x, StreamConnection) and x._unfinished_since is not None
        ]
        if sum(x.held for x in open_streams) > limits.MESSAGE_BYTES:
            min(
                open_streams, key=lambda x: x._unfinished_since or 0.0
            ).transport.abort()

    def handle_events(self) -> None:
        self._has_events = bool(self.conn.events)
        small = sum(
            len(getattr(event, "data", b"") or b"") < limits.SMALL_BYTES
            for event in self.conn.events
        )
        if small and not self._spend(small):
            self.conn.fail(1008, "too many small messages")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
            return
        super().handle_events()

    def _spend(self, num: int) -> bool:
        """Whether so many more small messages are not too many."""
        now = time.monotonic()
        gained = (now - self._small_at) * limits.SMALL_PER_SECOND
        self._small_left = min(limits.SMALL_BURST, self._small_left + gained) - num
        self._small_at = now
        return self._small_left >= 0
