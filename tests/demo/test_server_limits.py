"""demo: who is let in, what is refused how, and what one client cannot do to others."""

import asyncio
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("httpx")
pytest.importorskip("websockets")
pytest.importorskip("uvicorn")
import uvicorn
from measuring.bad_inputs import encode
from measuring.hostile import make_hostile
from measuring.running import running_server, stop_server
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from deepfer_jax.demo import connections, limits, reading, server
from deepfer_jax.demo import stream as stream_module
from deepfer_jax.demo.decoding import Decoder, Refused

HOSTS = ["testserver", "faces.example"]
FRAME = encode(np.full((48, 64, 3), 99, np.uint8))


class Analyzer:
    """Finds no faces, after some seconds, or fails."""

    classes, threshold, detector = ("a", "b"), 0.5, "short"

    def __init__(self, seconds=0.0):
        self.seconds, self.error = seconds, None

    def analyze(self, frame):
        time.sleep(self.seconds)
        if self.error:
            raise self.error
        return [[]]


@pytest.fixture(scope="module")
def analyzer():
    return Analyzer()


@pytest.fixture(scope="module")
def client(analyzer):
    with TestClient(server.create_app(analyzer, HOSTS)) as client:
        yield client


@pytest.mark.parametrize("host", ["testserver", "FACES.example:80", "testserver:8000"])
def test_names_that_are_known_are_answered(client, host):
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "testserver.evil.example", "[", "", "a@testserver", "10.0.0.1"],
)
def test_other_names_are_refused(client, host):
    for answer in (
        client.get("/", headers={"host": host}),
        client.post("/v1/analyze", headers={"host": host}, content=FRAME),
    ):
        assert answer.status_code == 403
        assert answer.json()["code"] == "host_not_allowed"
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/stream", headers={"host": host}),
    ):
        pass


@pytest.mark.parametrize("origin", ["http://[", "null", "", "https://evil.example"])
def test_other_origins_are_refused(client, origin):
    answer = client.post("/v1/analyze", headers={"origin": origin}, content=FRAME)
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/stream", headers={"origin": origin}),
    ):
        pass


def test_every_answer_binds_the_browser(client):
    for path in ("/", "/app.js", "/healthz", "/missing", "/v1/analyze"):
        headers = client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "camera=(self)" in headers["permissions-policy"]


def test_a_token_lets_in():
    app = server.create_app(Analyzer(), HOSTS, token="secret")
    with TestClient(app) as client:
        assert client.get("/").status_code == 200
        post = lambda **headers: client.post(  # noqa: E731
            "/v1/analyze", content=FRAME, headers=headers
        )
        assert post().json()["code"] == "unauthorized"
        assert post(authorization="Bearer other").status_code == 401
        assert post(authorization="Bearer secret").status_code == 200
        with client.websocket_connect("/v1/stream?token=secret") as stream:
            stream.send_bytes(FRAME)
            assert stream.receive_json()["faces"] == []
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/stream"):
            pass


def test_a_wrong_method_is_told_the_right_one(client):
    for method in ("GET", "PUT", "DELETE"):
        answer = client.request(method, "/v1/analyze")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert answer.json()["code"] == "method_not_allowed"
    assert client.get("/missing").json()["code"] == "not_found"
    assert client.get("/%00").status_code == 404


def test_a_form_is_as_good_as_a_body(client):
    raw = client.post("/v1/analyze", content=FRAME).json()
    files = {"file": ("photo.jpg", FRAME, "image/jpeg")}
    data = {"comment": "a field before the file"}
    form = client.post("/v1/analyze", files=files, data=data)
    assert form.status_code == 200
    assert {k: v for k, v in form.json().items() if k != "milliseconds"} == {
        k: v for k, v in raw.items() if k != "milliseconds"
    }
    answer = client.post("/v1/analyze", files={"x": (None, "text")})
    assert (answer.status_code, answer.json()["code"]) == (400, "no_file")
    headers = {"content-type": "multipart/form-data"}
    answer = client.post("/v1/analyze", content=b"--\r\n\r\n", headers=headers)
    assert answer.json()["code"] == "no_file"


def test_the_length_is_told_first(client):
    answer = client.post("/v1/analyze", content=iter([FRAME]))
    assert (answer.status_code, answer.json()["code"]) == (411, "length_required")


@pytest.mark.parametrize("item", make_hostile(), ids=lambda item: item.kind)
def test_hostile_images_cost_nothing(client, item):
    start = time.monotonic()
    answer = client.post("/v1/analyze", content=item.data)
    assert time.monotonic() - start < 20
    if item.refused is not None:
        assert answer.status_code == (400 if item.refused else 200)
    assert "0x" not in answer.text


def test_a_failure_is_logged_and_the_stream_goes_on(client, analyzer, caplog):
    with client.websocket_connect("/v1/stream") as stream:
        analyzer.error = RuntimeError("secret of <object at 0x7f>")
        try:
            stream.send_bytes(FRAME)
            answer = stream.receive_json()
            assert (answer["code"], answer["frame"]) == ("internal", 1)
            assert "secret" not in answer["error"]
            answer = client.post("/v1/analyze", content=FRAME)
            assert (answer.status_code, answer.json()["code"]) == (500, "internal")
            assert "secret" not in answer.text
        finally:
            analyzer.error = None
        stream.send_bytes(FRAME)
        assert stream.receive_json()["faces"] == []
    assert caplog.text.count("secret") >= 2


def test_a_stream_that_fails_itself_is_closed_with_1011(monkeypatch, client, caplog):
    def fail(tracker, text):
        raise RuntimeError("secret")

    monkeypatch.setattr(stream_module, "change_settings", fail)
    with client.websocket_connect("/v1/stream") as stream:
        stream.send_text("{}")
        with pytest.raises(WebSocketDisconnect) as caught:
            stream.receive_json()
    assert caught.value.code == 1011
    assert "secret" in caplog.text


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 900, '{"smoothing": 1e999}'])
def test_texts_that_break_a_parser_are_answered(client, text):
    with client.websocket_connect("/v1/stream") as stream:
        stream.send_text(text)
        assert stream.receive_json()["code"] == "bad_message"
        stream.send_bytes(FRAME)
        assert stream.receive_json()["faces"] == []


def test_a_decoder_that_takes_too_long_is_ended_and_another_takes_its_place():
    large = encode(Image.new("RGB", (6000, 4000)), progressive=True)
    decoder = Decoder(limits.MAX_PIXELS, limits.PHOTO_MEMORY, seconds=0.001)
    try:
        decoder.start()
        end = threading.Event()

        def watch():
            while not end.wait(0.01):
                decoder.end_if_late()

        watcher = threading.Thread(target=watch)
        watcher.start()
        with pytest.raises(Refused, match="to decode") as caught:
            decoder.decode(large)
        assert caught.value.code == "too_costly"
        end.set()
        watcher.join()
        assert decoder.decode(FRAME).pixels.shape == (48, 64, 3)
    finally:
        decoder.close()


def test_a_decoder_has_only_so_much_memory():
    large = encode(Image.new("RGBA", (6000, 4000)), "PNG")
    decoder = Decoder(limits.MAX_PIXELS, 180 * 2**20, seconds=20)
    try:
        with pytest.raises(Refused, match="memory"):
            decoder.decode(large)
        assert decoder.decode(FRAME).pixels.shape == (48, 64, 3)
    finally:
        decoder.close()


def test_who_costs_much_waits_longer():
    queue = reading.FairQueue(10)
    heavy, light = reading.Client(), reading.Client()

    def put(client, name):
        queue.put(reading._Job(client, name, None))

    queue.charge(heavy, 0.1)
    put(heavy, "heavy 1")
    put(light, "light 1")
    order = []
    for _ in range(3):
        job = queue.take()
        order.append(job.data)
        queue.charge(job.client, 0.01)
        if len(order) == 1:
            put(light, "light 2")
    assert order == ["light 1", "light 2", "heavy 1"]


def test_who_is_busy_all_the_time_is_not_left_behind():
    queue = reading.FairQueue(10)
    busy, new = reading.Client(), reading.Client()
    for _ in range(100):
        queue.charge(busy, 1.0)
    queue.put(reading._Job(busy, "busy", None))
    time.sleep(2 * reading._MAX_PENALTY)
    queue.put(reading._Job(new, "new", None))
    assert queue.take().data == "busy"


def test_a_full_queue_is_told_at_once(monkeypatch):
    monkeypatch.setattr(limits, "WAITING_PHOTOS", 2)
    app = server.create_app(Analyzer(seconds=1), HOSTS)
    statuses = []
    with TestClient(app) as client:

        def post():
            answer = client.post("/v1/analyze", content=FRAME)
            statuses.append((answer.status_code, answer.headers.get("retry-after")))

        threads = [threading.Thread(target=post) for _ in range(14)]
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        for thread in threads:
            thread.join()
    assert (503, "2") in statuses
    assert (200, None) in statuses


def run_demo(*arguments):
    command = [sys.executable, "-m", "deepfer_jax.demo", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False
    )


def test_wrong_addresses_are_refused_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, message in (
            (["--port", "99999"], "--port: expected 0 to 65535"),
            (["--port", port], "in use"),
            (["--host", "no.such.host.invalid"], "--token"),
            (["--host", "0.0.0.0"], "--no_token"),
        ):
            result = run_demo(*arguments)
            assert result.returncode != 0
            assert message in result.stderr
            assert "Traceback" not in result.stderr
            assert "open" not in result.stdout


def read_answer(connection):
    """Head and body, which may come apart."""
    connection.settimeout(20)
    answer = b""
    while not answer.endswith(b"}") and (part := connection.recv(65_536)):
        answer += part
    return answer


def test_idle_connections_give_way(monkeypatch):
    """The oldest, that has not asked; one that is being answered stays."""

    class Transport:
        def __init__(self):
            self.aborted = False

        def abort(self):
            self.aborted = True

        def get_extra_info(self, name):
            return None

        def close(self):
            pass

        def resume_reading(self):
            pass

    config = uvicorn.Config(server.create_app(Analyzer()), **connections.options())
    config.load()
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 3)
    state, transports = uvicorn.server.ServerState(), []

    async def connect():
        for i in range(5):
            transports.append(Transport())
            protocol = config.http_protocol_class(config, state, {})
            protocol.connection_made(transports[-1])
            if i == 0:  # it has asked
                protocol.cycle = type("Cycle", (), {"response_complete": False})()
            for other in list(protocol.all):  # as the loop does
                if other.transport.aborted:
                    other.connection_lost(None)

    asyncio.run(connect())
    aborted = [transport.aborted for transport in transports]
    assert aborted == [False, True, True, False, False]


def test_a_server_in_the_middle_of_it_all():
    """Chunks, fragments, pings and idle sockets; and it ends when it is told to."""
    pytest.importorskip("psutil")
    from measuring import attacks

    with running_server() as (address, pid):
        host, port = address.split(":")
        place = (host, int(port))
        attacker = attacks.Attacker(place, time.monotonic() + 20)
        head = f"POST /v1/analyze HTTP/1.1\r\nHost: {address}\r\n"
        with attacker.connect() as connection:
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            assert b"length_required" in read_answer(connection)
        with attacker.connect() as connection:
            connection.sendall(f"{head}Content-Length: 99999999\r\n\r\n".encode())
            assert b"too_large" in read_answer(connection)
        with attacker.connect() as connection:
            connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            assert b"bad_request" in read_answer(connection)
        for attack in (attacks.empty_fragments, attacks.pings):
            with attacker.connect() as connection, pytest.raises(OSError):  # noqa: PT011
                attack(attacker, connection)
        idle = [attacker.connect() for _ in range(100)]
        with attacker.connect() as connection:
            attacker.post(connection, len(FRAME), FRAME)
            assert b"200 OK" in read_answer(connection)
        with attacker.connect() as unfinished, attacker.connect() as unread:
            attacker.post(unfinished, 9_000_000, bytes(1000))
            attacker.open_stream(unread)
            message = attacks.make_message(0x82, FRAME)
            for _ in range(200):
                unread.sendall(message)
            assert stop_server(pid) < 5
        for connection in idle:
            connection.close()


def test_an_answer_to_who_has_left_is_no_failure(caplog):
    """uvicorn raises RuntimeError for what is sent after it has closed."""

    async def leave():
        messages = asyncio.Queue()
        for message in (
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "bytes": FRAME},
        ):
            messages.put_nowait(message)

        async def send(message):
            if message["type"] == "websocket.send":
                raise RuntimeError("Unexpected ASGI message")

        scope = {"type": "websocket", "path": "/v1/stream", "query_string": b""}
        scope |= {"headers": [(b"host", b"testserver")], "extensions": {}}
        readers = reading.Readers(Analyzer())
        app = server.create_app(Analyzer(), HOSTS, readers=readers)
        await app(scope, messages.get, send)
        readers.close()

    asyncio.run(leave())
    assert not caplog.records


def test_a_client_that_leaves_is_no_failure(caplog):
    async def leave():
        messages = [{"type": "http.request", "body": b"x", "more_body": True}]
        messages += [{"type": "http.disconnect"}]
        headers = [(b"host", b"testserver"), (b"content-length", b"1000")]
        scope = {"type": "http", "method": "POST", "path": "/v1/analyze"}
        scope |= {"query_string": b"", "headers": headers}
        app = server.create_app(Analyzer(), HOSTS)

        async def receive():
            return messages.pop(0)

        async def send(message):
            raise AssertionError(message)

        await app(scope, receive, send)

    asyncio.run(leave())
    assert not caplog.records
