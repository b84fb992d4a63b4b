"""Whether faces that stay sure are right where faces are spoiled, and what that costs.

    result = measure_quality(load_trained("tiny"), builder, "public_test")

Each corruption of `evaluation.corruptions`, of which none was used to fit quality, and
heads that are turned: faces laid on an ellipsoid, in front of a texture, found by the
detector as in any picture.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from measuring import timing
from measuring.framing import make_textures

from deepfer_jax.data.split import Split
from deepfer_jax.evaluation.corruptions import CORRUPTIONS, SEVERITIES, make_corrupt
from deepfer_jax.evaluation.evaluate import open_split
from deepfer_jax.evaluation.predict import make_judge, make_predict
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.inference import QUALITY_THRESHOLD
from deepfer_jax.models.preprocess import to_unit
from deepfer_jax.runs.trained import TrainedModel

YAWS = (0, 15, 30, 45, 60)
_TURNED = 1000
_BATCH = 256


def measure_quality(trained: TrainedModel, builder: Any, split: str) -> dict[str, Any]:
    """Reads a split's faces as they are and spoiled.

    Returns:
      {dataset, split, n, clean, corruptions by name a list by severity}: each
      {accuracy, by_probability, with_quality}, of which the latter two are {coverage,
      accuracy} of the faces that are sure by the probability alone, and by the quality
      too.
    """
    faces = open_split(builder, split, trained.classes)
    judge = jax.jit(
        make_judge(trained.model_config, trained.classes, trained.temperature)
    )
    threshold = trained.metadata["calibration"]["threshold"]

    def read(corrupt=None):
        right, confidence, worst = [], [], []
        keys = jax.random.split(jax.random.key(0), len(faces.labels))
        for i, batch in enumerate(faces.in_order(_BATCH)):
            images = jnp.asarray(batch["image"])
            if corrupt is not None:
                images = corrupt(keys[i * _BATCH :][: len(images)], images)
            probabilities, strengths = judge(trained.variables, to_unit(images))
            right.append(np.asarray(probabilities.argmax(1)) == batch["label"])
            confidence.append(probabilities.max(1))
            worst.append(strengths.max(1))
        right, confidence, worst = map(np.concatenate, (right, confidence, worst))
        sure = confidence >= threshold
        return {"accuracy": float(right.mean())} | {
            "by_probability": _kept(right, sure),
            "with_quality": _kept(right, sure & (1 - worst >= QUALITY_THRESHOLD)),
        }

    return {
        "dataset": builder.info.full_name,
        "split": split,
        "n": len(faces.labels),
        "clean": read(),
        "corruptions": {
            name: [read(make_corrupt(name, severity)) for severity in SEVERITIES]
            for name in CORRUPTIONS
        },
    }


def _kept(right: np.ndarray, kept: np.ndarray) -> dict[str, float | None]:
    accuracy = float(right[kept].mean()) if kept.any() else None
    return {"coverage": float(kept.mean()), "accuracy": accuracy}


def measure_turned(analyzer: Analyzer, faces: Split) -> list[dict[str, Any]]:
    """Reads heads that are turned by YAWS, to either side.

    Returns:
      For each yaw {yaw, n, found, median_yaw as it was measured, accuracy,
      by_probability, with_quality}, of those found.
    """
    images = next(faces.in_order(_TURNED))["image"][..., 0]
    labels = faces.labels[: len(images)]
    rows = []
    for yaw in YAWS:
        rng, found, right = np.random.default_rng(0), [], []
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            side = 1 if i % 2 else -1
            frame = turn(image, side * yaw)
            texture = make_textures(rng, 1, len(frame))[0, :, :, 0]
            frame = np.where(np.isnan(frame), texture, frame)
            frame = np.rint(np.clip(frame, 0, 255)).astype(np.uint8)
            read = analyzer.analyze(np.repeat(frame[..., None], 3, axis=2))[0]
            if read:
                found.append(read[0]._replace(yaw=side * read[0].yaw))
                right.append(read[0].label == faces.classes[label])
        right = np.array(right)
        sure = np.array([face.probability >= analyzer.threshold for face in found])
        also = np.array([not face.unsure for face in found])
        rows.append(
            {
                "yaw": yaw,
                "n": len(images),
                "found": len(found),
                "median_yaw": float(np.median([face.yaw for face in found])),
                "accuracy": float(right.mean()),
                "by_probability": _kept(right, sure),
                "with_quality": _kept(right, also),
            }
        )
    return rows


def turn(face: np.ndarray, yaw: float) -> np.ndarray:
    """A face on an ellipsoid, turned and seen from afar.

    Args:
      face: uint8 [H, H], that fills its picture.
      yaw: degrees.

    Returns:
      float32 [384, 384], NaN where there is no face, which has a side of 192.
    """
    side, width, height = 192, 0.62, 0.8  # of the picture's side
    image = PIL.Image.fromarray(face).resize((side, side), PIL.Image.Resampling.BICUBIC)
    image = np.asarray(image, np.float32)
    angle = np.deg2rad(yaw)
    frame = np.full((2 * side, 2 * side), np.nan, np.float32)
    across = (np.arange(side) + 0.5) / side - 0.5
    places = (np.arange(2 * side) + 0.5) / side - 1
    for row, down in enumerate(across):
        depth = 1 - (down / height) ** 2 - (across / width) ** 2
        depth = np.sqrt(np.maximum(depth, 0))
        moved = across * np.cos(angle) + width * (depth - 0.55) * np.sin(angle)
        seen = np.gradient(moved, across) > 0.05
        if seen.sum() > 1:
            frame[side // 2 + row] = np.interp(
                places, moved[seen], image[row, seen], left=np.nan, right=np.nan
            )
    return frame


def measure_cost(trained: TrainedModel, faces: Split) -> dict[str, float]:
    """Milliseconds a face with and without quality, of 64 faces in one call."""
    about = (trained.model_config, trained.classes, trained.temperature)
    images = to_unit(jnp.asarray(next(faces.in_order(64))["image"]))

    def make_task(make):
        call = jax.jit(make(*about))

        def task():
            jax.block_until_ready(call(trained.variables, images))
            return len(images)

        task()
        return task

    tasks = {"with_quality": make_task(make_judge), "without": make_task(make_predict)}
    timings = timing.measure(tasks, num_rounds=15, num_calls=5)
    return {
        f"ms_{name}": float(1000 / np.median(timings[name].rates)) for name in tasks
    }
