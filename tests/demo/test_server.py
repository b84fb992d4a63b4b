"""demo: HTTP and WebSocket answers, what is refused, and the page in a browser."""

import asyncio
import base64
import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from tests import photos

pytest.importorskip("starlette")
pytest.importorskip("httpx")
from measuring.bad_inputs import encode
from measuring.running import running_server
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from deepfer_jax.demo import limits, server
from deepfer_jax.faces.analyzer import Analyzer

HOSTS = ["testserver"]  # as Starlette's client calls it


@pytest.fixture(scope="module")
def client():
    with TestClient(server.create_app(Analyzer(), HOSTS)) as client:
        yield client


@pytest.fixture(scope="module")
def smiling():
    return photos.on_canvas(photos.photo("astronaut"), 480 / 512)


def test_health(client):
    answer = client.get("/healthz").json()
    assert answer["status"] == "ok"
    assert len(answer["classes"]) == 7


def test_a_picture_is_read_as_the_description_says(client, smiling):
    answer = client.post("/v1/analyze", content=encode(smiling, "PNG")).json()
    (face,) = answer["faces"]
    assert face["label"] == "happy"
    assert (answer["width"], answer["height"]) == (640, 480)
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name, found in (("Answer", answer), ("Face", face)):
        assert set(schemas[name]["required"]) == found.keys()
        optional = {"track", "explanation"}
        assert schemas[name]["properties"].keys() - optional == found.keys()
    gray = encode(smiling[..., 1], "PNG")
    assert len(client.post("/v1/analyze", content=gray).json()["faces"]) == 1
    for shape in ((48, 64, 3), (1, 5000, 3)):
        empty = encode(np.zeros(shape, np.uint8))
        assert client.post("/v1/analyze", content=empty).json()["faces"] == []


def test_why_a_face_was_read_so(client, smiling):
    """The crop, and red on the mouth; each of the first faces has its own."""
    two = np.concatenate([smiling, smiling[:, ::-1]], axis=1)
    answer = client.post("/v1/analyze?explain=1", content=encode(two, "PNG")).json()
    assert len(answer["faces"]) == 2
    for face in answer["faces"]:
        kind, _, data = face["explanation"].partition(",")
        assert kind == "data:image/png;base64"
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
        assert picture.shape == (192, 384, 3)
        plain, under = picture[:, :192], picture[:, 192:]
        assert (plain[..., 0] == plain[..., 2]).all()  # gray, as it was classified
        red = (under[..., 0] - under[..., 2]).clip(0)
        assert red[96:].sum() > 2 * red[:96].sum()
    wall = encode(np.full((480, 640, 3), 99, np.uint8), "PNG")
    assert client.post("/v1/analyze?explain=1", content=wall).json()["faces"] == []


def test_a_phone_s_photo_has_boxes_in_its_own_pixels(client, smiling):
    large = np.asarray(Image.fromarray(smiling).resize((4000, 3000)))
    answer = client.post("/v1/analyze", content=encode(large)).json()
    (face,) = answer["faces"]
    assert (answer["width"], answer["height"]) == (4000, 3000)
    left, top, right, bottom = (x / 6.25 for x in face["box"])
    assert 230 < left < right < 350
    assert 50 < top < bottom < 180


def bad_images():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    yield "nothing", b"", "not a whole image"
    yield "noise", rng.bytes(1000), "not a whole image"
    yield "a cut JPEG", encode(noise)[:-700], "not a whole image"
    yield "a cut PNG", encode(noise, "PNG")[:-5000], "not a whole image"
    still = Image.new("L", (4, 4))
    file = io.BytesIO()
    still.save(file, "PNG", save_all=True, append_images=[Image.new("L", (4, 4), 9)])
    yield "an animation", file.getvalue(), "an animation of 2 frames"
    bomb = io.BytesIO()
    Image.new("1", (12_000, 10_000)).save(bomb, "PNG")
    yield "a bomb", bomb.getvalue(), "12000 x 10000 pixels, more than"
    yield "too many bytes", bytes(limits.MAX_BYTES + 1), "more than 10,000,000 bytes"
    for kind in ("TIFF", "GIF", "BMP", "PPM"):
        message = f"a {kind} file: expected JPEG, PNG, WEBP"
        yield kind, encode(noise, kind), message


@pytest.mark.parametrize(
    ("data", "message"), [pytest.param(*x[1:], id=x[0]) for x in bad_images()]
)
def test_what_is_no_picture_is_refused_and_the_next_is_read(
    client, smiling, data, message
):
    answer = client.post("/v1/analyze", content=data)
    assert answer.status_code == (413 if len(data) > limits.MAX_BYTES else 400)
    assert message in answer.json()["error"]
    assert answer.json()["code"] in ("bad_image", "too_large")
    with client.websocket_connect("/v1/stream") as stream:
        stream.send_bytes(data)
        answer = stream.receive_json()
        assert message in answer["error"]
        stream.send_bytes(encode(smiling))
        assert stream.receive_json()["faces"][0]["label"] == "happy"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"smoothing": "x"}', '{"smoothing": -1}', '{"smoothing": true}',
     '{"smoothing": NaN}', '{"x": 1}', '{"smoothing": 1, "x": 1}', "7", "null"],
)  # fmt: skip
def test_other_messages_are_answered_by_an_error(client, text):
    with client.websocket_connect("/v1/stream") as stream:
        stream.send_text(text)
        assert "expected an image" in stream.receive_json()["error"]


def test_a_stream_follows_and_smooths(client, smiling):
    with client.websocket_connect("/v1/stream") as stream:
        stream.send_text(json.dumps({"smoothing": 5}))
        stream.send_bytes(encode(smiling))
        first = stream.receive_json()
        stream.send_bytes(encode(smiling[:, ::-1]))
        second = stream.receive_json()
        assert (first["frame"], second["frame"]) == (1, 2)
        assert first["faces"][0]["track"] == 1
        moved = np.roll(smiling, 5, axis=1)
        stream.send_bytes(encode(moved))
        assert stream.receive_json()["faces"][0]["track"] == first["faces"][0]["track"]


def test_the_newest_frame_wins(smiling):
    """While one is read, of those that come only the last is kept."""

    class Slow:
        classes, threshold, detector, num_calls = ("a", "b"), 0.5, "short", 0

        def analyze(self, frame):
            self.num_calls += 1
            time.sleep(0.3)
            return [[]]

    slow = Slow()
    data = encode(smiling)
    with (
        TestClient(server.create_app(slow, HOSTS)) as client,
        client.websocket_connect("/v1/stream") as stream,
    ):
        for _ in range(20):
            stream.send_bytes(data)
        time.sleep(3)  # for two answers and more
        stream.send_text("the end")
        frames = []
        while "frame" in (answer := stream.receive_json()):
            frames.append(answer["frame"])
    assert frames[-1] == 20
    assert len(frames) <= 4
    assert slow.num_calls == len(frames)


def test_other_sites_cannot_read_the_stream(client):
    for origin, allowed in (
        ("http://testserver", True),
        ("https://evil.example", False),
        ("http://testserver.evil.example", False),
        ("null", False),
    ):
        headers = {"origin": origin, "host": "testserver"}
        if allowed:
            with client.websocket_connect("/v1/stream", headers=headers):
                continue
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect("/v1/stream", headers=headers),
        ):
            pass


# Where the row through the middle of the face has the colour of a happy face's box.
COLUMNS_OF_HAPPY = """
(() => {
  const canvas = document.getElementById("picture");
  const row = canvas.getContext("2d").getImageData(0, 105, 350, 1).data;
  const near = (i, value) => Math.abs(row[i] - value) < 25;
  return [...Array(350).keys()].filter(
    (x) => near(4 * x, 0xcc) && near(4 * x + 1, 0xbb) && near(4 * x + 2, 0x44));
})()
"""


def test_the_page_shows_the_face_and_then_none(smiling, tmp_path):
    """Chromium's camera plays the astronaut for five seconds, then a wall for three."""
    pytest.importorskip("websockets")
    from tests import chromium

    if chromium.find() is None:
        pytest.skip("needs Chromium")
    wall = np.full_like(smiling, 110)
    camera = tmp_path / "camera.y4m"
    chromium.write_y4m(camera, np.stack([smiling] * 75 + [wall] * 45))

    async def look(address):
        url = f"http://{address}/?camera"
        async with chromium.open_page(url, tmp_path / "profile", camera) as page:
            status = "document.getElementById('status').textContent"
            await page.until(f"{status}.startsWith('1 face: happy')", 60)
            await page.until("Number(document.getElementById('rate').textContent) > 2")
            # The box's left side, in the colour of happy, and no other beside it.
            columns = await page.evaluate(COLUMNS_OF_HAPPY)
            assert columns
            assert all(235 < column < 255 or 325 < column < 345 for column in columns)
            for scheme, width in (("light", 1000), ("dark", 1000), ("light", 390)):
                await page.resize(width, 900, scheme)
                code = "document.documentElement.scrollWidth <= innerWidth"
                assert await page.evaluate(code)
                await page.screenshot(tmp_path / f"{scheme}_{width}.png")
            await page.until(f"{status} === 'No face.'")
            assert "not" not in await page.evaluate(status)
            # The keyboard reaches the controls.
            await page.evaluate("document.getElementById('camera').focus()")
            code = "document.activeElement.id"
            assert await page.evaluate(code) == "camera"

    with running_server() as (address, _):
        asyncio.run(look(address))


def test_a_sample_has_a_card_and_can_be_saved(tmp_path):
    from tests import chromium

    if chromium.find() is None:
        pytest.skip("needs Chromium")

    async def look(address):
        async with chromium.open_page(f"http://{address}/", tmp_path / "p") as page:
            stage = "document.getElementById('stage').dataset.state"
            await page.until(f"{stage} === 'empty'")
            await page.until("document.querySelectorAll('.sample').length === 3")
            await page.evaluate("document.querySelector('.sample').click()")
            await page.until(f"{stage} === 'faces'", 60)
            cards = await page.evaluate("document.getElementById('cards').innerText")
            assert cards.startswith("happy 9")
            assert "pixels wide" in cards
            # Why: a picture under the card, by one click, and away by another.
            image = "document.querySelector('.why img')"
            click = "document.querySelector('.why button').click()"
            await page.evaluate(click)
            await page.until(f"{image}.naturalWidth === 384", 60)
            assert await page.evaluate(f"{image}.hidden") is False
            if chromium.AXE.exists():
                assert await chromium.find_violations(page) == []
            await page.screenshot(tmp_path / "why.png")
            await page.evaluate(click)
            assert await page.evaluate(f"{image}.hidden") is True
            # A still has neither frames a second nor a history.
            for name in ("numbers", "history-part", "player", "camera-options"):
                hidden = f"document.getElementById('{name}').hidden"
                assert await page.evaluate(hidden) is True
            csv = await page.evaluate(
                "new Promise((done) => { URL.createObjectURL = (blob) => "
                "{ blob.text().then(done); return '#'; };"
                "document.querySelector('[data-save=csv]').click(); })"
            )
            head, row, _ = csv.split("\n")
            start = "time,track,left,top,right,bottom,score,yaw,roll,label"
            assert head.startswith(start)
            assert ",happy,0.9" in row

    with running_server() as (address, _):
        asyncio.run(look(address))


def test_tags_on_the_page_cover_no_other_face(tmp_path):
    from tests import chromium

    if chromium.find() is None:
        pytest.skip("needs Chromium")
    code = """
    (async () => {
      const { findPlace } = await import("./draw.js");
      const canvas = { width: 640, height: 480 };
      const box = { x: 100, y: 100, w: 60, h: 60 };
      const other = { x: 80, y: 60, w: 100, h: 39 };
      const free = findPlace(canvas, box, [], 90, 20);
      const moved = findPlace(canvas, box, [other], 90, 20);
      return [free.y, moved.y];
    })()
    """

    async def look(address):
        async with chromium.open_page(f"http://{address}/", tmp_path / "p") as page:
            await page.until("document.querySelectorAll('.sample').length === 3")
            assert await page.evaluate(code) == [80, 160]

    with running_server() as (address, _):
        asyncio.run(look(address))
