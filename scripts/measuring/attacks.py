"""Clients that mean harm, in a process of their own, against a server on this machine.

    python -m measuring.attacks 127.0.0.1:8000 60

Prints {attack: {"opened": ..., "cut_off": ...}} when the seconds are over: how many
connections were opened, and how many of them the server ended. It works only while no
other process wants to: elsewhere attackers have processors of their own.
"""

import collections
import contextlib
import itertools
import json
import os
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from measuring.bad_inputs import encode
from measuring.hostile import make_hostile
from PIL import Image

_MEGABYTE = bytes(2**20)
_PAUSE_SECONDS = 0.1
_NUM_IDLE = 500
_LEFT = (OSError, EOFError)


class Attacker:
    """Opens connections until the end, and counts what became of them.

    Args:
      address: (host, port).
      end: by the monotonic clock.
    """

    def __init__(self, address: tuple[str, int], end: float):
        self.address, self.end = address, end
        self.counts = collections.defaultdict(collections.Counter)

    def run(self, attack: Callable[["Attacker", socket.socket], None]) -> None:
        """Makes an attack on one connection after the other."""
        counts = self.counts[attack.__name__]
        while time.monotonic() < self.end:
            with contextlib.suppress(OSError), self.connect() as connection:
                counts["opened"] += 1
                try:
                    attack(self, connection)
                except _LEFT:
                    counts["cut_off"] += 1
            time.sleep(_PAUSE_SECONDS)

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.address, timeout=5)
        connection.settimeout(max(0.1, min(60, self.end - time.monotonic())))
        return connection

    def post(self, connection: socket.socket, length: int, body: bytes = b"") -> None:
        host = f"{self.address[0]}:{self.address[1]}"
        head = f"POST /v1/analyze HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body)

    def open_stream(self, connection: socket.socket) -> None:
        host = f"{self.address[0]}:{self.address[1]}"
        connection.sendall(
            f"GET /v1/stream HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        if b" 101 " not in connection.recv(4096):
            raise EOFError("no stream")

    def wait(self, connection: socket.socket) -> None:
        """Until it is cut off."""
        while connection.recv(65_536):
            pass
        raise EOFError("it was closed")

    def chain(self) -> Iterator[None]:
        while time.monotonic() < self.end:
            yield


def make_message(opcode: int, data: bytes, length: int | None = None) -> bytes:
    """A WebSocket frame with a mask of zeros; `length` may be more than is there."""
    length = len(data) if length is None else length
    if length < 126:
        size = struct.pack(">B", 128 | length)
    elif length < 2**16:
        size = struct.pack(">BH", 128 | 126, length)
    else:
        size = struct.pack(">BQ", 128 | 127, length)
    return bytes([opcode]) + size + bytes(4) + data


_TEXT, _BINARY, _CONTINUED, _PING, _WHOLE = 0x01, 0x02, 0x00, 0x89, 0x80


def unfinished_body(attacker: Attacker, connection: socket.socket) -> None:
    attacker.post(connection, 9_999_000, _MEGABYTE * 9)
    attacker.wait(connection)


def endless_body(attacker: Attacker, connection: socket.socket) -> None:
    attacker.post(connection, 10**12)
    for _ in attacker.chain():
        connection.sendall(_MEGABYTE)


def one_byte_chunks(attacker: Attacker, connection: socket.socket) -> None:
    connection.sendall(
        b"POST /v1/analyze HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    for _ in attacker.chain():
        connection.sendall(b"1\r\nx\r\n" * 10_000)


def slow_head(attacker: Attacker, connection: socket.socket) -> None:
    for _ in attacker.chain():
        connection.sendall(b"GET / HTTP/1.1\r\nX: "[:1])
        time.sleep(1)


def requests_unread(attacker: Attacker, connection: socket.socket) -> None:
    for _ in attacker.chain():
        connection.sendall(b"GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)


def unfinished_message(attacker: Attacker, connection: socket.socket) -> None:
    attacker.open_stream(connection)
    connection.sendall(make_message(_BINARY | _WHOLE, _MEGABYTE * 9, 9_999_000))
    attacker.wait(connection)


def unfinished_fragments(attacker: Attacker, connection: socket.socket) -> None:
    attacker.open_stream(connection)
    connection.sendall(make_message(_BINARY, _MEGABYTE))
    for _ in range(8):
        connection.sendall(make_message(_CONTINUED, _MEGABYTE))
    attacker.wait(connection)


def empty_fragments(attacker: Attacker, connection: socket.socket) -> None:
    attacker.open_stream(connection)
    connection.sendall(make_message(_BINARY, b""))
    for _ in attacker.chain():
        connection.sendall(make_message(_CONTINUED, b"") * 10_000)


def pings(attacker: Attacker, connection: socket.socket) -> None:
    attacker.open_stream(connection)
    for _ in attacker.chain():
        connection.sendall(make_message(_PING, bytes(125)) * 1000)


def frames_unread(attacker: Attacker, connection: socket.socket) -> None:
    attacker.open_stream(connection)
    message = make_message(_BINARY | _WHOLE, _frame(640, 480))
    for _ in attacker.chain():
        connection.sendall(message)


def texts(attacker: Attacker, connection: socket.socket) -> None:
    attacker.open_stream(connection)
    for _ in attacker.chain():
        connection.sendall(make_message(_TEXT | _WHOLE, b"[" * 100_000))
        if not connection.recv(65_536):
            raise EOFError("it was closed")


def hostile_uploads(attacker: Attacker, connection: socket.socket) -> None:
    item = random.choice(make_hostile())
    attacker.post(connection, len(item.data), item.data)
    connection.recv(65_536)


def hostile_frames(attacker: Attacker, connection: socket.socket) -> None:
    attacker.open_stream(connection)
    for _ in attacker.chain():
        data = random.choice(make_hostile()).data
        connection.sendall(make_message(_BINARY | _WHOLE, data))
        if not connection.recv(65_536):
            raise EOFError("it was closed")


def new_sizes(attacker: Attacker, connection: socket.socket) -> None:
    width, height = (random.randrange(16, 1921) for _ in range(2))
    data = _frame(width, height)
    attacker.post(connection, len(data), data)
    connection.recv(65_536)


def large_photos(attacker: Attacker, connection: socket.socket) -> None:
    data = _photo()
    attacker.post(connection, len(data), data)
    connection.recv(65_536)


def noise(attacker: Attacker, connection: socket.socket) -> None:
    for _ in attacker.chain():
        connection.sendall(random.randbytes(10_000))


def idle(attacker: Attacker) -> None:
    """Hundreds of connections that ask nothing, opened again when they are closed."""
    counts, connections = attacker.counts["idle"], []
    for _ in attacker.chain():
        while len(connections) < _NUM_IDLE:
            try:
                connection = attacker.connect()
            except OSError:
                break
            connection.setblocking(False)
            connections.append(connection)
            counts["opened"] += 1
        time.sleep(0.5)
        left = []
        for connection in connections:
            with contextlib.suppress(BlockingIOError):
                with contextlib.suppress(ConnectionError):
                    connection.recv(1)
                connection.close()
                counts["cut_off"] += 1
                continue
            left.append(connection)
        connections = left


def _frame(width: int, height: int) -> bytes:
    return encode(Image.new("RGB", (width, height), "gray"))


def _photo(saved: list[bytes] = []) -> bytes:  # noqa: B006 (made once)
    if not saved:
        rng = np.random.default_rng(0)
        small = Image.fromarray(rng.integers(0, 256, (400, 600, 3), np.uint8))
        saved.append(encode(small.resize((6000, 4000))))
    return saved[0]


ATTACKS = {
    unfinished_body: 8, endless_body: 2, one_byte_chunks: 2, slow_head: 20,
    requests_unread: 2, unfinished_message: 8, unfinished_fragments: 4,
    empty_fragments: 2, pings: 2, frames_unread: 2, texts: 1, hostile_uploads: 2,
    hostile_frames: 2, new_sizes: 2, large_photos: 8, noise: 1,
}  # fmt: skip


def main(argv: list[str]) -> None:
    (host, port), seconds = argv[0].split(":"), float(argv[1])
    make_hostile()
    _photo()
    print("ready", flush=True)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    attacker = Attacker((host, int(port)), time.monotonic() + seconds)
    calls = [(idle, (attacker,))]
    for attack, num in ATTACKS.items():
        calls += itertools.repeat((attacker.run, (attack,)), num)
    threads = [threading.Thread(target=f, args=a, daemon=True) for f, a in calls]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    print(json.dumps({name: dict(x) for name, x in sorted(attacker.counts.items())}))
    sys.stdout.flush()
    # Held open, for a server that is to be stopped beside them.
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
