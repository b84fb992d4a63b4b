"""The page in the browser alone, in Chromium: as Analyzer, without a network, closed.

Needs what `make web` makes: web/node_modules and build/web/models.
"""

import asyncio
import json
import pathlib

import build_web
import numpy as np
import pytest
from measuring import web
from PIL import Image

from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.photos import find_faces
from deepfer_jax.faces.tracking import Tracker
from tests import photos

MODELS = pathlib.Path(__file__).parents[1] / "build" / "web" / "models"
STAGE = "document.getElementById('stage').dataset.state"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The page of these sources, with the models of the last `make web`."""
    pytest.importorskip("websockets")
    from tests import chromium

    if chromium.find() is None:
        pytest.skip("needs Chromium")
    if not (build_web.RUNTIME.exists() and MODELS.exists()):
        pytest.skip("needs make web")
    out = tmp_path_factory.mktemp("web") / "page"
    build_web.lay_out(MODELS, out)
    return out


def look(folders, profile, visit, query="", **browser):
    """Awaits visit(page) of the open page."""
    from tests import chromium

    async def run(url):
        async with chromium.open_page(url + query, profile, **browser) as page:
            await page.until("window.deepfer")
            await visit(page)

    with web.serve(folders) as (url, _):
        asyncio.run(run(url))


def pictures():
    """By name: faces alone and two, tilted, small, at an edge, and none."""
    astronaut = photos.photo("astronaut")
    two = np.array(photos.on_canvas(astronaut, 0.6))
    two[20:260, 10:200] = astronaut[:240, 120:310]
    group = np.full((700, 1300, 3), 120, np.uint8)
    small = np.asarray(Image.fromarray(astronaut).resize((150, 150)))
    group[100:250, 200:350], group[450:600, 1000:1150] = small, small[:, ::-1]
    tilted = Image.fromarray(astronaut).rotate(25, Image.Resampling.BILINEAR)
    return {
        "one": photos.on_canvas(astronaut, 0.9),
        "two": two,
        "tilted": np.asarray(tilted),
        "group": group,
        "cut": np.ascontiguousarray(astronaut[:333, 190:400]),
        "none": photos.on_canvas(photos.photo("coffee"), 0.7),
    }


@pytest.mark.parametrize("detector", ["auto", "short"])
def test_it_answers_as_analyzer(built, tmp_path, detector):
    analyzer, images = Analyzer("tiny", detector), pictures()
    for name, image in images.items():
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    answers = {}

    async def visit(page):
        for name in images:
            for is_still in (False, True):
                answer = await web.read(page, f"pictures/{name}.png", is_still)
                answers[name, is_still] = answer["faces"]

    folders = {"": built, "pictures": tmp_path}
    look(folders, tmp_path / "profile", visit, f"?detector={detector}")
    differences = []
    for (name, is_still), faces in answers.items():
        image = images[name]
        expected = (
            find_faces(analyzer, image) if is_still else analyzer.analyze(image)[0]
        )
        differences.append(web.compare(faces, expected, analyzer.classes))
    total = web.join(differences)
    assert total["faces"] >= 6
    assert (total["missed"], total["added"], total["labels"]) == (0, 0, 0)
    assert total["box"] < 0.5
    assert total["probability"] < 0.01
    assert total["quality"] < 0.01


def test_webgpu_answers_as_analyzer(built, tmp_path):
    """By the detector that resizes, too."""
    analyzer, image = Analyzer("tiny"), pictures()["two"]
    Image.fromarray(image).save(tmp_path / "two.png")
    answers = []

    async def visit(page):
        adapter = "navigator.gpu?.requestAdapter().then((adapter) => !!adapter)"
        if not await page.evaluate(adapter):
            pytest.skip("needs a Chromium with an adapter for WebGPU")
        answers.append(await web.read(page, "pictures/two.png", False))

    folders = {"": built, "pictures": tmp_path}
    look(folders, tmp_path / "profile", visit, webgpu=True)
    (expected,) = analyzer.analyze(image)
    found = web.compare(answers[0]["faces"], expected, analyzer.classes)
    assert found["faces"] == 2
    assert (found["missed"], found["added"], found["labels"]) == (0, 0, 0)
    assert found["box"] < 0.5
    assert found["probability"] < 0.01


def test_it_works_without_a_network_after_the_first_visit(built, tmp_path):
    from tests import chromium

    async def visit(url, end):
        address = f"{url}anywhere/"
        async with chromium.open_page(address, tmp_path / "profile") as page:
            await page.until("!!navigator.serviceWorker?.controller")
            end()
            await page.send("Page.reload", ignoreCache=False)
            await page.until("document.querySelectorAll('.sample').length === 3")
            assert await page.evaluate("fetch('nowhere').catch(() => 'cut')") == "cut"
            await page.evaluate("document.querySelector('.sample').click()")
            await page.until(f"{STAGE} === 'faces'", 60)
            cards = await page.evaluate("document.getElementById('cards').innerText")
            assert cards.startswith("happy 9")

    with web.serve({"": tmp_path, "anywhere": built}) as served:
        asyncio.run(visit(*served))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_everyone_can_use_it(built, tmp_path, width, scheme):
    """axe-core finds nothing before a picture, with one, and in all that may show."""
    from tests import chromium

    if not chromium.AXE.exists():
        pytest.skip("needs make web")

    async def visit(page):
        await page.resize(width, 900, scheme)
        await page.until("document.querySelectorAll('.sample').length === 3")
        assert await chromium.find_violations(page) == []
        await page.evaluate("document.querySelector('.sample').click()")
        await page.until(f"{STAGE} === 'faces'", 60)
        assert await chromium.find_violations(page) == []
        await page.evaluate(
            "document.querySelectorAll('[hidden]').forEach((part) => "
            "part.removeAttribute('hidden'))"
        )
        assert await chromium.find_violations(page) == []
        await page.evaluate("document.querySelector('#seek').ariaLabel = ''")
        (violation,) = await chromium.find_violations(page)  # it does look
        assert violation.startswith("label: ")

    look({"": built}, tmp_path / "profile", visit)


TO_ELSEWHERE = """
(() => {
  const told = "addEventListener('securitypolicyviolation', (event) => "
    + "told(event.effectiveDirective)); fetch('http://127.0.0.1:9/').catch(() => {});";
  const code = new Blob([`const told = postMessage; ${told}`]);
  const worker = new Worker(URL.createObjectURL(code));
  const inWorker = new Promise((done) => {
    worker.onmessage = (event) => done(event.data);
  });
  const inPage = new Promise((done) => new Function("told", told)(done));
  return Promise.all([inWorker, inPage]);
})()
"""


def test_nothing_may_be_sent_elsewhere(built, tmp_path):
    async def visit(page):
        found = await page.evaluate(TO_ELSEWHERE)
        assert found == ["connect-src", "connect-src"]

    look({"": built}, tmp_path / "profile", visit)


def test_its_tracker_is_pythons(built, tmp_path):
    """Two faces move, one is missing for a while, and comes back."""
    classes = ("happy", "sad")
    tracker = Tracker(classes, 0.6, 0.4)
    moments, expected = [], []
    for i in range(12):
        time = i / 15
        faces = [(10 + 3 * i, 0.5 + 0.04 * i)]
        if i not in (4, 5, 8, 9, 10):
            faces.append((300 - 2 * i, 0.9 - 0.05 * i))
        moments.append([time, [make_face(x, p) for x, p in faces]])
        created = [
            Face(
                box=np.array(face["box"], np.float32),
                score=1.0,
                landmarks=np.zeros((6, 2)),
                label=face["label"],
                probability=face["probability"],
                probabilities=np.array([*face["probabilities"].values()], np.float32),
                unsure=face["unsure"],
                quality=face["quality"],
            )
            for face in moments[-1][1]
        ]
        expected.append(
            [
                (face.track, face.label, face.unsure, round(float(face.probability), 4))
                for face in tracker.update(created, time)
            ]
        )
    code = f"""
    (async () => {{
      const {{ Tracker }} = await import("./tracker.js");
      const limits = {{ threshold: 0.6, quality_threshold: 0.5 }};
      const tracker = new Tracker({{ classes: ["happy", "sad"], ...limits }});
      const tell = (face) => [face.track, face.label, face.unsure, face.probability];
      return {json.dumps(moments)}.map(
        ([time, faces]) => tracker.update(faces, time).map(tell));
    }})()
    """

    async def visit(page):
        found = await page.evaluate(code)
        assert [[f[:3] for f in faces] for faces in found] == [
            [list(f[:3]) for f in faces] for faces in expected
        ]
        for ours, theirs in zip(found, expected, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                assert one[3] == pytest.approx(other[3], abs=1e-3)

    look({"": built}, tmp_path / "profile", visit)


def make_face(x, p):
    return {
        "box": [x, 50, x + 100, 150],
        "label": "happy",
        "probability": p,
        "unsure": False,
        "quality": 0.9,
        "probabilities": {"happy": p, "sad": 1 - p},
    }
