"""Faces and emotions as others read them: the packages `fer` and vladmandic/human.

    faces = read_with_fer(python, images)
    faces = read_with_human(pathlib.Path("downloads/peers"), images, open_page)

Each image, uint8 [H, W, 3], RGB, has a list of `Found`, the surest first.
"""

import asyncio
import json
import pathlib
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from measuring import web
from PIL import Image

from deepfer_jax.errors import UserError

# In a process of its own: fer needs other packages than this project.
_FER = """
import json, pathlib, sys
import numpy as np
from fer.fer import FER
reader, found = FER(), []
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    faces = reader.detect_emotions(np.ascontiguousarray(np.load(path)[..., ::-1]))
    found.append([
        [[int(x) for x in face["box"]], max(face["emotions"], key=face["emotions"].get)]
        for face in faces
    ])
print(json.dumps(found))
"""
_HUMAN = """
(async (num) => {
  const scripts = new URL("/peers/", location.href).href;
  const library = `${scripts}@vladmandic/human/dist/human.esm.js`;
  const { default: Human } = await import(library);
  const off = { enabled: false }, every = { skipFrames: 0, skipTime: 0 };
  const human = new Human({
    backend: "wasm", wasmPath: `${scripts}@tensorflow/tfjs-backend-wasm/dist/`,
    modelBasePath: `${scripts}@vladmandic/human/models/`,
    cacheSensitivity: 0, filter: off, gesture: off, body: off, hand: off, object: off,
    segmentation: off, debug: false,
    face: {
      enabled: true,
      detector: { rotation: false, maxDetected: 50, minConfidence: 0.4, ...every },
      mesh: off, attention: off, iris: off, description: off, antispoof: off,
      liveness: off, emotion: { enabled: true, minConfidence: 0, ...every },
    },
  });
  await human.load();
  const found = [];
  for (let i = 0; i < num; i += 1) {
    const blob = await (await fetch(`/images/${i}.png`)).blob();
    const bitmap = await createImageBitmap(blob);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    const { face: faces } = await human.detect(canvas);
    const named = faces.map((face) =>
      [face.box, face.emotion?.[0]?.emotion ?? "", face.score]);
    found.push(named.sort((a, b) => b[2] - a[2]));
  }
  return found;
})
"""


class Found(NamedTuple):
    """A face: its box, left, top, right, bottom; its emotion, of which all are sure."""

    box: np.ndarray
    label: str
    unsure: bool = False


def read_with_fer(python: str, images: Sequence[np.ndarray]) -> list[list[Found]]:
    """What `fer` finds.

    Args:
      python: an interpreter that has it, with an OpenCV below 5.
      images: uint8 [H, W, 3], RGB.

    Raises:
      UserError: it does not run there.
    """
    with tempfile.TemporaryDirectory() as folder:
        for i, image in enumerate(images):
            np.save(pathlib.Path(folder, f"{i:06d}.npy"), image)
        command = [python, "-c", _FER, folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", None) or str(error)
            raise UserError(
                f"{python} cannot run fer ({why.strip().splitlines()[-1]}): "
                'pip install fer "opencv-contrib-python<5" "setuptools<80" there'
            ) from None
    found = json.loads(done.stdout.splitlines()[-1])
    return [[_found(*face) for face in faces] for faces in found]


def read_with_human(
    peers: pathlib.Path, images: Sequence[np.ndarray], open_page: Callable
) -> list[list[Found]]:
    """What vladmandic/human finds, in Chromium, of a confidence of at least 0.4.

    Its default of 0.2 finds a tenth more faces of photographs, and five times as many
    false ones.

    Args:
      peers: where npm installed it (scripts/measure_web.py says how).
      images: uint8 [H, W, 3], RGB.
      open_page: `tests.chromium.open_page`.
    """

    async def read(scratch: pathlib.Path) -> list:
        (scratch / "index.html").write_text("<!doctype html><title>human</title>")
        folders = {"": scratch, "images": scratch, "peers": peers / "node_modules"}
        with web.serve(folders) as (url, _):
            async with open_page(url, scratch / "profile") as page:
                await page.until("document.title === 'human'")
                return await page.evaluate(f"({_HUMAN.strip()})({len(images)})")

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for i, image in enumerate(images):
            Image.fromarray(image).save(pathlib.Path(folder, f"{i}.png"))
        found = asyncio.run(read(pathlib.Path(folder)))
    return [[_found(box, label) for box, label, _ in faces] for faces in found]


def _found(box: Sequence[float], label: str) -> Found:
    x, y, width, height = box
    return Found(np.array([x, y, x + width, y + height]), label)
