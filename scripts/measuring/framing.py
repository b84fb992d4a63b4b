"""Which crop around a detected face is like the faces that a classifier was trained on.

    result = measure_framing(trained, builder, "public_test", "short")
    result["best"]                       # {"margin": 1.1, "offset": -0.05}

Faces of the data set are enlarged into frames, found by the detector, cut out with
several margins and offsets, and classified: the best crop is the one with which most
are classified correctly.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepfer_jax.evaluation.evaluate import open_split
from deepfer_jax.faces.crop import Framing, crop_faces
from deepfer_jax.faces.detector import load_detector, make_detect
from deepfer_jax.models.blazeface import BLAZEFACES
from deepfer_jax.models.preprocess import make_preprocess, to_unit
from deepfer_jax.runs.trained import TrainedModel, build_model

MARGINS = (0.9, 1.0, 1.1, 1.2, 1.3, 1.4)
OFFSETS = (-0.1, -0.05, 0.0, 0.05)
# A face is enlarged by so much, inside a frame of twice its side.
_ENLARGED = 4
_BATCH = 50


def measure_framing(
    trained: TrainedModel, builder: Any, split: str, detector: str
) -> dict[str, Any]:
    """Reads a split's faces as they are, and as they are found and cut out.

    Args:
      network: the classifier.
      builder: a prepared data set of gray faces.
      split: of it, that choices are made on.
      detector: a name of `blazeface.BLAZEFACES`.

    Returns:
      {detector, n, recall, accuracy_of_faces (of those found, as they are), rows
      (margin, offset, accuracy), best}.
    """
    pipeline = open_split(builder, split, trained.classes)
    size = _ENLARGED * pipeline.image_shape[0]
    edge = size // 2
    true_size = np.full(2, size + 2 * edge, np.int32)
    detect = jax.jit(make_detect(load_detector(detector), max_faces=1))
    model = build_model(trained.model_config, trained.classes)
    to_input = make_preprocess(trained.model_config)
    classify = jax.jit(
        lambda images: model.apply(trained.variables, to_input(to_unit(images)))
    )

    @jax.jit
    def place(faces):
        large = jax.image.resize(
            faces.astype(jnp.float32), (len(faces), size, size, 1), "cubic"
        )
        large = jnp.clip(jnp.rint(large), 0, 255).astype(jnp.uint8)
        frames = jnp.pad(large, ((0, 0), (edge, edge), (edge, edge), (0, 0)), "edge")
        return jnp.repeat(frames, 3, axis=3)

    framings = [Framing(*pair) for pair in itertools.product(MARGINS, OFFSETS)]
    crop = jax.jit(crop_faces, static_argnums=(4, 6))
    masks, plain, right = [], [], [[] for _ in framings]
    for batch in pipeline.in_order(_BATCH):
        labels = batch["label"]
        frames = place(batch["image"])
        faces = detect(frames, true_size)
        masks.append(faces.mask[:, 0])
        plain.append(classify(batch["image"]).argmax(1) == labels)
        for rights, framing in zip(right, framings, strict=True):
            index, shape = jnp.arange(len(labels)), pipeline.image_shape
            places = (index, faces.boxes[:, 0], faces.landmarks[:, 0])
            crops = crop(frames, *places, framing, true_size, shape)
            rights.append(classify(crops).argmax(1) == labels)
    masks, plain = np.concatenate(masks), np.concatenate(plain)
    rows = [
        framing._asdict() | {"accuracy": float(np.concatenate(rights)[masks].mean())}
        for framing, rights in zip(framings, right, strict=True)
    ]
    best = max(rows, key=lambda row: row["accuracy"])
    return {
        "dataset": builder.info.full_name,
        "split": split,
        "detector": detector,
        "min_score": BLAZEFACES[detector].min_score,
        "n": len(masks),
        "recall": float(masks.mean()),
        "accuracy_of_faces": float(plain[masks].mean()),
        "best": {name: best[name] for name in ("margin", "offset")},
        "rows": rows,
    }
