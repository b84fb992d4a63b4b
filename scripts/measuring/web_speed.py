"""How fast faces are read in a browser, beside two other libraries in the same page.

    await measure_speed(page, rounds=30)

Each of the programs reads the same frames of 640x480 with one face, in turns that go
round, all in WebAssembly with SIMD and one thread: ours with either detector, from a
canvas to the worker's answer; vladmandic/human with its detector and emotion alone;
vladmandic/face-api with its fastest detector and its expressions.
"""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

PEERS = {
    "@vladmandic/human": "3.3.6",
    "@vladmandic/face-api": "1.7.15",
    "@tensorflow/tfjs-backend-wasm": "4.22.0",
}
_WARM_UP = 5
# Opened from the same address, without the page's policy, which bars the others.
PAGE = "<!doctype html><title>speed</title><body>"
_OPEN = """
(async (names) => {
  const scripts = new URL("/peers/", location.href).href;
  const wasm = scripts + "@tensorflow/tfjs-backend-wasm/dist/";
  const readers = {};
  const { Engine } = await import("/engine.js");
  for (const detector of ["short", "full"]) {
    history.replaceState(null, "", `?detector=${detector}`);
    const engine = new Engine(() => {});
    await engine.readClasses();
    readers[`deepfer_${detector}`] = async (canvas) =>
      (await engine.ask(canvas, false)).faces.length;
  }
  const theirs = `${scripts}@vladmandic/`;
  const { default: Human } = await import(`${theirs}human/dist/human.esm.js`);
  const off = { enabled: false }, every = { skipFrames: 0, skipTime: 0 };
  const human = new Human({
    backend: "wasm", wasmPath: wasm, modelBasePath: `${theirs}human/models/`,
    cacheSensitivity: 0, filter: off, gesture: off, body: off, hand: off, object: off,
    segmentation: off, debug: false,
    face: {
      enabled: true,
      detector: { rotation: false, maxDetected: 16, ...every },
      mesh: off, attention: off, iris: off, description: off, antispoof: off,
      liveness: off, emotion: { enabled: true, ...every },
    },
  });
  await human.load();
  readers.human = async (canvas) =>
    (await human.detect(canvas)).face.filter((face) => face.emotion?.length).length;
  const faceapi = await import(`${theirs}face-api/dist/face-api.esm.js`);
  faceapi.tf.setWasmPaths(wasm);
  await faceapi.tf.setBackend("wasm");
  await faceapi.tf.ready();
  const models = `${theirs}face-api/model/`;
  await faceapi.nets.tinyFaceDetector.loadFromUri(models);
  await faceapi.nets.faceExpressionNet.loadFromUri(models);
  const options = new faceapi.TinyFaceDetectorOptions();
  readers.face_api = async (canvas) =>
    (await faceapi.detectAllFaces(canvas, options).withFaceExpressions()).length;
  window.readers = readers;
  window.frames = await Promise.all(names.map(async (name) => {
    const blob = await (await fetch(`/frames/${name}`)).blob();
    const bitmap = await createImageBitmap(blob);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return canvas;
  }));
  return [human.tf.getBackend(), faceapi.tf.getBackend()];
})
"""
_TIME = """
(async (name, frame) => {
  const start = performance.now();
  const faces = await window.readers[name](window.frames[frame]);
  return [performance.now() - start, faces];
})
"""


def write_frames(photo: np.ndarray, folder: pathlib.Path, num: int = 5) -> list[str]:
    """A face in other places of as many frames of 640x480; returns their names."""
    names = []
    for i in range(num):
        frame = Image.new("RGB", (640, 480), (110, 115, 120))
        frame.paste(Image.fromarray(photo).resize((440, 440)), (20 * i, 8 * i))
        names.append(f"{i}.png")
        frame.save(folder / names[-1])
    return names


async def measure_speed(page: Any, names: Sequence[str], rounds: int) -> dict[str, Any]:
    """Milliseconds of a frame, by program.

    Args:
      page: an open PAGE of a server of build/web, /peers and /frames.
      names: of the frames.
      rounds: how often each program reads a frame.

    Raises:
      RuntimeError: a program could not be opened.
    """
    backends = await page.evaluate(
        f"({_OPEN.strip()})({list(names)}).catch((error) => String(error.stack))"
    )
    if backends != ["wasm", "wasm"]:
        raise RuntimeError(str(backends))
    programs = await page.evaluate("Object.keys(window.readers)")
    taken: dict[str, list[float]] = {name: [] for name in programs}
    found: dict[str, list[int]] = {name: [] for name in programs}
    for number in range(-_WARM_UP, rounds):
        for name in programs if number % 2 else programs[::-1]:
            call = f"({_TIME.strip()})({name!r}, {number % len(names)})"
            milliseconds, faces = await page.evaluate(call)
            if number >= 0:
                taken[name].append(milliseconds)
                found[name].append(faces)
    return {
        "rounds": rounds,
        "versions": PEERS,
        "programs": {name: _summary(taken[name], found[name]) for name in programs},
        "ratio": _ratios({name: statistics.median(x) for name, x in taken.items()}),
    }


def _summary(taken: Sequence[float], found: Sequence[int]) -> dict[str, float]:
    p10, p50, p90 = np.percentile(taken, [10, 50, 90]).round(1).tolist()
    faces = statistics.mean(found)
    return {"p10_ms": p10, "p50_ms": p50, "p90_ms": p90, "faces_a_frame": faces}


def _ratios(medians: Mapping[str, float]) -> dict[str, float]:
    """How many times our time the others take, by median."""
    return {
        f"{other}_over_{ours}": round(medians[other] / medians[ours], 2)
        for ours in ("deepfer_short", "deepfer_full")
        for other in ("human", "face_api")
    }
