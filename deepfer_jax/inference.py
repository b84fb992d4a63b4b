"""Runs an exported model: `Predictor(MODEL).classify(faces)`.

    predictor = Predictor()                  # the model that ships, "tiny"
    predictor = Predictor("small")           # the other one, larger and better
    predictor = Predictor("models/mine")     # or an exported one
    predictor.classify(faces)[0]      # Prediction("happy", 0.93, unsure=False, ...)
    predictor.predict(faces)          # probabilities, float32 [N, 7]

This file needs jax, numpy and the standard library only: normalisation is
inside the exported program. What it is given is brought to the model's input by these
rules:

- gray or RGB (never BGR), uint8 in 0..255; RGB becomes gray by ITU-R 601 luma,
  0.299 R + 0.587 G + 0.114 B, rounded, for a model that reads gray; gray becomes RGB
  by repetition for one that reads RGB;
- an image that is not square is first made so by repeating its edges on both sides;
- any other size is resized bilinearly with antialiasing (a triangle filter as wide as
  the scale, as Pillow's BILINEAR), first gray then size, rounded to uint8.
"""

import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from deepfer_jax.executables import Executable
from deepfer_jax.exported import ExportedModel, ModelError

ARTEFACT = "model.jax_export"
# The model that is taken where none is named.
DEFAULT_MODEL = "tiny"
_MAX_BATCH = 256
# Quality below which a face is unsure.
QUALITY_THRESHOLD = 0.5


class Prediction(NamedTuple):
    """What a model reads from one face.

    label is the likeliest class and probability its calibrated probability; unsure says
    that it is below the model's threshold (above it, 90 % of the validation faces were
    classified correctly) or the quality below QUALITY_THRESHOLD, None if the model was
    exported without calibration; probabilities are float32 [classes]; quality in [0, 1]
    says how well the face can be read, and where it is low, reason says what spoils it
    (covered, blurred, noisy, dark; in a picture also small, turned). Both are None of
    models that were exported before there was quality.
    """

    label: str
    probability: float
    unsure: bool | None
    probabilities: np.ndarray
    quality: float | None = None
    reason: str | None = None


def name_class(
    probabilities: np.ndarray,
    classes: Sequence[str],
    threshold: float | None,
    quality: float | None = None,
    reason: str | None = None,
) -> Prediction:
    """The likeliest class of one face.

    Args:
      probabilities: float32 [classes].
      classes: their names.
      threshold: of the model; None if it is not calibrated.
      quality: in [0, 1], of `name_cause`; None where it is not known.
      reason: as quality.
    """
    best = int(probabilities.argmax())
    probability = float(probabilities[best])
    unsure = None
    if threshold is not None:
        unsure = probability < threshold or (
            quality is not None and quality < QUALITY_THRESHOLD
        )
    return Prediction(
        classes[best], probability, unsure, probabilities, quality, reason
    )


def name_cause(
    strengths: np.ndarray, causes: Sequence[str]
) -> tuple[float, str | None]:
    """Quality and reason of one face.

    Args:
      strengths: float32 [causes] in [0, 1], how strongly each spoils the face.
      causes: their names.

    Returns:
      (quality in [0, 1], the strongest cause's name or, of a quality of at least
      QUALITY_THRESHOLD, None).
    """
    worst = int(strengths.argmax())
    quality = 1 - float(strengths[worst])
    return quality, causes[worst] if quality < QUALITY_THRESHOLD else None


class Predictor:
    """A model that ships, or that scripts/export.py wrote.

    Args:
      model: a name (`exported.shipped_models`) or a folder.
      cache: False keeps nothing that is compiled for the next process
        (`deepfer_jax.executables`).

    Attributes:
      folder: of the model.
      metadata: what is known of it; `classes`, `input`, `calibration`, ...
      classes: names of the probabilities, in order.
      threshold: probability below which a face is `unsure`, or None.
      causes: names of what can spoil a face; empty of models from before quality.

    Raises:
      ModelError: there is no such model, it is damaged, or this jax cannot read it.
    """

    def __init__(self, model: str | os.PathLike = DEFAULT_MODEL, cache: bool = True):
        exported = ExportedModel(model)
        self.folder, self.metadata = exported.folder, exported.metadata
        self.classes = tuple(self.metadata["classes"])
        calibration = self.metadata.get("calibration") or {}
        self.threshold = calibration.get("threshold")
        self.causes = tuple(self.metadata.get("causes", ()))
        self._shape = tuple(self.metadata["input"]["shape"])
        self._call = Executable(
            *exported.load(ARTEFACT),
            cache=cache,
            build_again=functools.partial(exported.build_again, ARTEFACT),
        )

    def predict(self, faces: np.ndarray | Iterable[np.ndarray]) -> np.ndarray:
        """Probabilities of each class for each face.

        Args:
          faces: one face, uint8 [H, W] or RGB [H, W, 3]; or many, uint8 [N, H, W],
            [N, H, W, 1] or [N, H, W, 3], or an iterable of single ones of any sizes,
            which is consumed in parts. An array [N, H, W] whose last axis is 1 or 3
            could be either: write [1, H, W, 3] for one picture, or a list for many.

        Returns:
          float32 [N, classes], rows that sum to 1; N is 1 for one face. Memory does not
          grow with N beyond the result.

        Raises:
          ModelError: an array of another type or shape.
        """
        return self._judge(faces)[0]

    def classify(self, faces: np.ndarray | Iterable[np.ndarray]) -> list[Prediction]:
        """The likeliest class of each face; faces and errors as for `predict`."""
        named = (self.classes, self.threshold)
        probabilities, strengths = self._judge(faces)
        if not self.causes:
            return [name_class(row, *named) for row in probabilities]
        return [
            name_class(row, *named, *name_cause(some, self.causes))
            for row, some in zip(probabilities, strengths, strict=True)
        ]

    def _judge(
        self, faces: np.ndarray | Iterable[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities [N, classes] and strengths [N, causes]."""
        parts = [self._judge_part(part) for part in self._fit(faces)]
        if not parts:
            none = np.zeros((0, len(self.classes)), np.float32)
            return none, np.zeros((0, len(self.causes)), np.float32)
        probabilities, strengths = zip(*parts, strict=True)
        return np.concatenate(probabilities), np.concatenate(strengths)

    def _fit(self, faces: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Gives uint8 [n, *input shape], some hundred faces at a time."""
        if isinstance(faces, np.ndarray):
            faces = _as_many(faces)
            if faces.dtype == np.uint8 and faces.shape[1:] == self._shape:
                for start in range(0, len(faces), _MAX_BATCH):
                    yield faces[start : start + _MAX_BATCH]
                return
        each = iter(faces)
        while some := list(itertools.islice(each, _MAX_BATCH)):
            yield np.stack([fit_face(face, self._shape) for face in some])

    def _judge_part(self, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fills up to a power of two, so that few batch sizes are ever compiled."""
        size = 1 << (len(faces) - 1).bit_length()
        padding = np.zeros((size - len(faces), *self._shape), np.uint8)
        outputs = self._call(np.concatenate([faces, padding]))
        if not self.causes:
            outputs = (outputs, np.zeros((size, 0), np.float32))
        probabilities, strengths = (np.asarray(x)[: len(faces)] for x in outputs)
        return probabilities, strengths


def _as_many(faces: np.ndarray) -> np.ndarray:
    """An array as an array of faces: one face becomes one of them.

    Raises:
      ModelError: a shape that could be read either way.
    """
    if faces.ndim == 2:
        return faces[None]
    if faces.ndim == 3 and faces.shape[2] in (1, 3):
        # Faces 1 or 3 pixels wide are nobody's; as many faces as rows might be.
        if faces.shape[0] in (1, 3) or faces.shape[1] in (1, 3):
            raise ModelError(
                f"faces: an array of shape {list(faces.shape)} is ambiguous: write "
                "[1, H, W, 3] for one RGB picture, [N, H, W, 1] for gray ones"
            )
        return faces[None]
    return faces


def fit_face(face: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Brings one image to a model's input, by the rules at the top of this file.

    Args:
      face: uint8 [H, W], [H, W, 1] or [H, W, 3] (RGB).
      shape: (height, width, channels) wanted, height equal to width; of one channel
        (gray) or three (RGB).

    Returns:
      uint8 of that shape.

    Raises:
      ModelError: another type or shape.
    """
    face = np.asarray(face)
    if face.dtype != np.uint8:
        raise ModelError(f"face: expected uint8 in 0..255, found {face.dtype}")
    if 0 in face.shape or (face.ndim != 2 and face.shape[2:] not in ((1,), (3,))):
        raise ModelError(
            f"face: expected shape [H, W], [H, W, 1] or [H, W, 3], found {face.shape}"
        )
    face = face.reshape(*face.shape[:2], -1)
    if face.shape[2] > shape[2]:
        face = np.rint(face @ np.array([[0.299], [0.587], [0.114]])).astype(np.uint8)
    height, width = face.shape[:2]
    side = max(height, width)
    if height != width:
        before = ((side - height) // 2, (side - width) // 2)
        padding = [
            (b, side - n - b) for b, n in zip(before, (height, width), strict=True)
        ]
        face = np.pad(face, [*padding, (0, 0)], mode="edge")
    if side != shape[0]:
        weights = _resize_weights(side, shape[0])
        channels = [weights @ face[:, :, c] @ weights.T for c in range(face.shape[2])]
        face = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return np.broadcast_to(face, shape)


@functools.lru_cache(maxsize=64)
def _resize_weights(size: int, new_size: int) -> np.ndarray:
    """Matrix float32 [new_size, size] of bilinear resizing with antialiasing."""
    scale = size / new_size
    support = max(scale, 1.0)
    centres = (np.arange(new_size) + 0.5) * scale
    distances = np.abs(np.arange(size) + 0.5 - centres[:, None])
    weights = np.maximum(1 - distances / support, 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
