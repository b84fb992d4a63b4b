"""Whether the page in the browser alone answers as Analyzer, and how fast.

with serve({"": pathlib.Path("build/web"), "pictures": pictures}) as (url, _): ...
answer = await read(page, "pictures/a.png", is_still=True)
differences = compare(answer["faces"], faces, classes)
"""

import contextlib
import functools
import http.server
import json
import pathlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.boxes import overlap
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.photos import find_faces

_READ = """
(async (url, isStill) => {
  const bitmap = await createImageBitmap(await (await fetch(url)).blob());
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  const told = (error) => ({ error: String(error) });
  return window.deepfer.engine.ask(canvas, isStill).catch(told);
})
"""


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args, folders: Mapping[str, pathlib.Path], **options):
        self._folders = folders
        super().__init__(*args, **options)

    def translate_path(self, path: str) -> str:
        first, _, rest = path.split("?")[0].lstrip("/").partition("/")
        if first and first in self._folders:
            return str(self._folders[first] / rest)
        self.directory = str(self._folders[""])
        return super().translate_path(path)

    def log_message(self, *args) -> None:
        pass


class Served(NamedTuple):
    """An address, and what ends the server before its time."""

    url: str
    end: Callable[[], None]


@contextlib.contextmanager
def serve(folders: Mapping[str, pathlib.Path]) -> Iterator[Served]:
    """A server of the files of folders, by the first part of their path."""
    handler = functools.partial(_Handler, folders=folders)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def end() -> None:
        server.shutdown()
        server.server_close()

    try:
        yield Served(f"http://localhost:{server.server_port}/", end)
    finally:
        end()


async def read(page: Any, path: str, is_still: bool) -> dict[str, Any]:
    """What the page finds in a picture, before faces are followed.

    Args:
      page: an open page of build/web.
      path: of the picture, from the page.
      is_still: as a photograph, with tiles, or as a frame.

    Raises:
      RuntimeError: the page failed.
    """
    answer = await page.evaluate(f"{_READ}({path!r}, {json.dumps(is_still)})")
    if answer is None or "error" in answer:
        raise RuntimeError(f"{path}: {answer}")
    return answer


def compare(
    found: Sequence[Mapping[str, Any]], expected: Sequence[Face], classes: Sequence[str]
) -> dict[str, Any]:
    """How far the page's faces are from Analyzer's.

    Args:
      found: as the page tells them.
      expected: Analyzer's.
      classes: names of the probabilities.

    Returns:
      {faces: expected, missed, added, box: largest difference in pixels, probability
      and quality: largest difference, labels: that differ}, of those that both found.
    """
    left = list(found)
    boxes, probabilities, qualities, labels, missed = [0.0], [0.0], [0.0], 0, 0
    for face in expected:
        overlaps = [float(overlap(face.box, np.array(f["box"]))) for f in left]
        if not overlaps or max(overlaps) < 0.5:
            missed += 1
            continue
        other = left.pop(int(np.argmax(overlaps)))
        boxes.append(float(np.abs(face.box - np.array(other["box"])).max()))
        values = np.array([other["probabilities"][name] for name in classes])
        probabilities.append(float(np.abs(face.probabilities - values).max()))
        qualities.append(abs(float(face.quality or 0) - other["quality"]))
        labels += face.label != other["label"]
    return {
        "faces": len(expected),
        "missed": missed,
        "added": len(left),
        "box": max(boxes),
        "probability": max(probabilities),
        "quality": max(qualities),
        "labels": labels,
    }


def join(differences: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of many pictures: sums of counts, and the largest differences."""
    sums = ("faces", "missed", "added", "labels")
    return {"pictures": len(differences)} | {
        name: sum(each[name] for each in differences)
        if name in sums
        else round(max(each[name] for each in differences), 6)
        for name in differences[0]
    }


async def measure_agreement(
    page: Any, analyzer: Analyzer, photos: pathlib.Path, scratch: pathlib.Path
) -> dict[str, Any]:
    """`join` of all photographs, as stills and as frames.

    Both read the same pixels: each photograph as Pillow decodes it.

    Args:
      page: an open page of build/web, with the analyzer's detector.
      analyzer: what it is compared with.
      photos: folder of .jpg files.
      scratch: folder that the page's server has at photos/.
    """
    differences: dict[bool, list] = {True: [], False: []}
    for path in sorted(photos.glob("*.jpg")):
        image = np.asarray(Image.open(path).convert("RGB"))
        Image.fromarray(image).save(scratch / f"{path.stem}.png", compress_level=1)
        for is_still, rows in differences.items():
            answer = await read(page, f"photos/{path.stem}.png", is_still)
            expected = (
                find_faces(analyzer, image) if is_still else analyzer.analyze(image)[0]
            )
            rows.append(compare(answer["faces"], expected, analyzer.classes))
    return {"stills": join(differences[True]), "frames": join(differences[False])}
