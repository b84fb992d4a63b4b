"""Which crop around a detected face is like the faces that a classifier was trained on.

    result = measure_framing(trained, builder, "public_test", "short", "texture")
    best = choose([result, ...])         # Framing(margin=1.1, offset=-0.05)

Faces of the data set are enlarged into frames, found by the detector, cut out with
several margins and offsets, and classified: the best crop is the one with which most
are classified correctly. What surrounds a face is its repeated edge, as a plain wall
would be, or a texture that has nothing to do with it: a cut-out has no head's outline.
"""

import itertools
from collections.abc import Sequence
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

MARGINS = (0.9, 1.0, 1.1, 1.2, 1.3)
OFFSETS = (-0.15, -0.1, -0.05, 0.0, 0.05)
BACKGROUNDS = ("edge", "texture")
# A face is enlarged by so much, inside a frame of twice its side.
_ENLARGED = 4
_BATCH = 50


def measure_framing(
    trained: TrainedModel, builder: Any, split: str, detector: str, background: str
) -> dict[str, Any]:
    """Reads a split's faces as they are, and as they are found and cut out.

    Args:
      trained: the classifier.
      builder: a prepared data set of gray faces.
      split: of it, that choices are made on.
      detector: a name of `blazeface.BLAZEFACES`.
      background: one of BACKGROUNDS.

    Returns:
      {detector, background, n, recall, accuracy_of_faces (of those found, as they are),
      rows (margin, offset, accuracy)}.
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
    def place(faces, background):
        large = jax.image.resize(
            faces.astype(jnp.float32), (len(faces), size, size, 1), "cubic"
        )
        large = jnp.clip(jnp.rint(large), 0, 255).astype(jnp.uint8)
        frames = jnp.pad(large, ((0, 0), (edge, edge), (edge, edge), (0, 0)), "edge")
        if background is not None:
            inside = slice(edge, edge + size)
            frames = background.at[:, inside, inside].set(large)
        return jnp.repeat(frames, 3, axis=3)

    rng = np.random.default_rng(0)

    framings = [Framing(*pair) for pair in itertools.product(MARGINS, OFFSETS)]
    crop = jax.jit(crop_faces, static_argnums=(4, 6))
    masks, plain, right = [], [], [[] for _ in framings]
    for batch in pipeline.in_order(_BATCH):
        labels = batch["label"]
        around = None
        if background == "texture":
            around = jnp.asarray(make_textures(rng, len(labels), size + 2 * edge))
        frames = place(batch["image"], around)
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
    return {
        "dataset": builder.info.full_name,
        "split": split,
        "detector": detector,
        "background": background,
        "min_score": BLAZEFACES[detector].min_score,
        "n": len(masks),
        "recall": float(masks.mean()),
        "accuracy_of_faces": float(plain[masks].mean()),
        "rows": rows,
    }


def make_textures(rng: np.random.Generator, num: int, side: int) -> np.ndarray:
    """Noise whose amplitude falls with its frequency, as that of photographs does.

    Returns:
      uint8 [num, side, side, 1], of different brightness and contrast.
    """
    y, x = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    amplitude = 1 / np.maximum(np.hypot(x, y), 1 / side)
    spectrum = np.fft.rfft2(rng.normal(size=(num, side, side))) * amplitude
    noise = np.fft.irfft2(spectrum, (side, side))
    noise -= noise.mean((1, 2), keepdims=True)
    noise /= noise.std((1, 2), keepdims=True)
    mean, contrast = rng.uniform((60, 20), (190, 60), (num, 2)).T[:, :, None, None]
    return np.clip(mean + contrast * noise, 0, 255).astype(np.uint8)[..., None]


def choose(results: Sequence[dict[str, Any]]) -> Framing:
    """The framing with the best mean accuracy over results of one detector."""
    scores = {}
    for result in results:
        for row in result["rows"]:
            framing = Framing(row["margin"], row["offset"])
            scores[framing] = scores.get(framing, 0.0) + row["accuracy"]
    return max(scores, key=scores.get)
