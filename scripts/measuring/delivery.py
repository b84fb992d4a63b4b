"""What a detector delivers to the classifier, and what becomes of it, by size.

    rows = measure_delivery("tiny", builder, "public_test", fer_python=None)

Faces of a data set are enlarged into textured frames, as `framing` does, to several
widths; each frame is read by the whole product, and by the package `fer` if there is
an interpreter with it. A face is found if a detection overlaps it with an intersection
over union of 0.4; the label is that of the detection that overlaps it most. How far the
crops are off the true square is what `augment.framing` draws in training.
"""

import os
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from measuring.framing import make_textures
from measuring.peers import read_with_fer
from PIL import Image

from deepfer_jax.evaluation.evaluate import open_split
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.boxes import overlap
from deepfer_jax.faces.crop import Framing, place_crops
from deepfer_jax.faces.face import Face
from deepfer_jax.inference import Predictor
from deepfer_jax.models.blazeface import BLAZEFACES

WIDTHS = (80, 130, 200, 250)
_MIN_OVERLAP = 0.4


def measure_delivery(
    model: str | os.PathLike,
    builder: Any,
    split: str,
    num: int,
    fer_python: str | None = None,
    widths: Sequence[int] = WIDTHS,
) -> list[dict[str, Any]]:
    """Reads faces as they are, and as they are found in frames.

    Args:
      model: an exported one.
      builder: a prepared data set of gray faces with the model's classes.
      split: of it.
      num: of the split's faces, the first ones.
      fer_python: an interpreter that has `fer`, to compare with.
      widths: of faces in the frames, in pixels; a frame is twice as wide.

    Returns:
      A row a width and reader ("short", "full", "fer"): {reader, width, n, found, uncut
      (of those found, right as they are), right}, numbers of faces; and ours `crops`:
      {x, y, log2_scale, roll}: [mean, standard deviation], shifts in sides of the true
      square, the roll in degrees.

    Raises:
      UserError: fer does not run there.
    """
    predictor = Predictor(model)
    pipeline = open_split(builder, split, predictor.classes)
    batches = list(pipeline.in_order(num))[:1]
    images, labels = batches[0]["image"][..., 0], batches[0]["label"]
    uncut = predictor.predict(images).argmax(1) == labels
    names = np.array(predictor.classes)[labels]
    analyzers = {name: Analyzer(model, name) for name in BLAZEFACES}
    rows = []
    for width in widths:
        frames = make_frames(images, width)
        true = np.array([width / 2, width / 2, 1.5 * width, 1.5 * width])
        readings = {
            name: [analyzer.analyze(frame)[0] for frame in _as_rgb(frames)]
            for name, analyzer in analyzers.items()
        }
        if fer_python is not None:
            readings["fer"] = read_with_fer(fer_python, _as_rgb(frames))
        for reader, found in readings.items():
            best = [_pick(faces, true) for faces in found]
            there = np.array([face is not None for face in best])
            right = [
                face is not None and face.label == name
                for face, name in zip(best, names, strict=True)
            ]
            row = {"reader": reader, "width": width, "n": len(labels)}
            row |= {"found": int(there.sum()), "uncut": int(uncut[there].sum())}
            row |= {"right": int(sum(right))}
            if reader in analyzers:
                about = analyzers[reader].metadata["faces"]["detectors"][reader]
                faces = [face for face in best if face is not None]
                row["crops"] = describe_crops(faces, Framing(**about["framing"]), true)
            rows.append(row)
    return rows


def make_frames(images: np.ndarray, width: int) -> np.ndarray:
    """Faces uint8 [N, h, h], resized to `width`, in the middle of textured frames.

    Returns:
      uint8 [N, 2 * width, 2 * width].
    """
    frames = make_textures(np.random.default_rng(width), len(images), 2 * width)[..., 0]
    before = width // 2
    inside = slice(before, before + width)
    for frame, image in zip(frames, images, strict=True):
        picture = Image.fromarray(image)
        frame[inside, inside] = picture.resize((width, width), Image.Resampling.BICUBIC)
    return frames


def describe_crops(
    faces: Sequence[Face], framing: Framing, true: np.ndarray
) -> dict[str, list[float]]:
    """How far crops are off the true square: {name: [mean, standard deviation]}."""
    boxes = jnp.stack([face.box for face in faces])
    landmarks = jnp.stack([face.landmarks for face in faces])
    places = place_crops(boxes, landmarks, framing)
    centre, side = (true[:2] + true[2:]) / 2, true[2] - true[0]
    shift = (np.asarray(places.centre) - centre) / side
    across = np.asarray(places.across)
    errors = {
        "x": shift[:, 0],
        "y": shift[:, 1],
        "log2_scale": np.log2(np.asarray(places.side) / side),
        "roll": np.degrees(np.arctan2(across[:, 1], across[:, 0])),
    }
    return {
        name: [round(float(f(values)), 4) for f in (np.mean, np.std)]
        for name, values in errors.items()
    }


def _as_rgb(frames: np.ndarray) -> list[np.ndarray]:
    return [np.repeat(frame[..., None], 3, axis=2) for frame in frames]


def _pick(faces: Sequence[Any], true: np.ndarray) -> Any:
    """The one that overlaps the true box most, if it does so enough, or None."""
    best = max(faces, key=lambda face: overlap(face.box, true), default=None)
    if best is None or overlap(best.box, true) < _MIN_OVERLAP:
        return None
    return best
