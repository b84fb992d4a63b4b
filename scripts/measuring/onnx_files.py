"""Whether ONNX files, run by ONNX Runtime in Python, answer as jax does.

measure_onnx(pathlib.Path("build/web/models"), num_frames=200)
"""

import functools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measuring import recall
from PIL import Image

from deepfer_jax.faces.crop import Framing, crop_faces
from deepfer_jax.faces.detector import Detector, load_detector, make_detect
from deepfer_jax.inference import Predictor

_SIZE = (480, 640)


class _Network:
    """An ONNX detector in the place of a Flax network."""

    def __init__(self, path: pathlib.Path):
        import onnxruntime

        self._session = onnxruntime.InferenceSession(path)
        outputs = self._session.get_outputs()
        self._shapes = [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in outputs]

    def apply(self, variables: Any, images: jax.Array) -> list[jax.Array]:
        del variables
        return jax.pure_callback(self._run, self._shapes, (images + 1) * 127.5)

    def _run(self, pixels: Any) -> list[np.ndarray]:
        return self._session.run(None, {"images": np.asarray(pixels)})


def measure_onnx(
    folder: pathlib.Path, model: str = "tiny", num_frames: int = 200
) -> dict[str, Any]:
    """Largest differences between ONNX Runtime and jax.

    Args:
      folder: that `onnx_export.export_onnx` wrote of the model.
      model: a name that ships.
      num_frames: of 640x480 with one face each, of other sizes and places.

    Returns:
      {frames, by detector {faces, box in pixels, score}, classifier {probability}}.
    """
    frames = list(_draw_frames(num_frames))
    about = json.loads((folder / "metadata.json").read_text())["faces"]["detectors"]
    results: dict[str, Any] = {"frames": num_frames}
    crops = []
    for name in about:
        ours = load_detector(name)
        network = _Network(folder / about[name]["file"])
        theirs = Detector(name, ours.model._replace(network=network), {})
        detectors = [jax.jit(make_detect(detector)) for detector in (ours, theirs)]
        framing = Framing(**about[name]["framing"])
        faces, box, score = 0, 0.0, 0.0
        for frame in frames:
            size = jnp.array(_SIZE)
            pixels = jnp.asarray(frame[None])
            expected, found = (detect(pixels, size) for detect in detectors)
            if (expected.mask != found.mask).any():
                raise AssertionError(f"{name}: other faces are found")
            there = np.asarray(expected.mask[0])
            faces += int(there.sum())
            box = max(box, _largest(expected.boxes, found.boxes))
            score = max(score, _largest(expected.scores, found.scores))
            if there[0]:
                place = (expected.boxes[0, :1], expected.landmarks[0, :1])
                where = (pixels, jnp.zeros(1, jnp.int32), *place, framing, size)
                crops.append(np.asarray(_crop(*where)))
        results[name] = {"faces": faces, "box": box, "score": score}
    results["classifier"] = _compare_classifier(folder, model, np.concatenate(crops))
    return results


_crop = jax.jit(functools.partial(crop_faces, shape=(48, 48, 1)))


def _largest(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def _compare_classifier(
    folder: pathlib.Path, model: str, crops: np.ndarray
) -> dict[str, float]:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "classifier.onnx")
    probabilities, strengths = session.run(None, {"crops": crops})
    expected = Predictor(model).classify(crops)
    qualities = [face.quality for face in expected]
    return {
        "faces": len(crops),
        "probability": _largest(probabilities, [f.probabilities for f in expected]),
        "quality": _largest(1 - strengths.max(1), qualities),
    }


def _draw_frames(num: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(np.asarray(x)) for x in recall.load_photos().values()]
    for i in range(num):
        photo = photos[i % len(photos)]
        height = int(rng.integers(240, 480))
        picture = photo.resize((height * photo.width // photo.height, height))
        frame = Image.new("RGB", (_SIZE[1], _SIZE[0]), (110, 115, 120))
        left = int(rng.integers(0, max(1, _SIZE[1] - picture.width)))
        frame.paste(picture, (left, int(rng.integers(0, _SIZE[0] - height))))
        yield np.asarray(frame)
