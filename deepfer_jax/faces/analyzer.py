"""Finds the faces in frames and reads their emotions: `Analyzer().analyze(frames)`.

    analyzer = Analyzer()                      # the model that ships
    for face in analyzer.analyze(frames)[0]:
        print(face.box, face.emotion, face.unsure)

Detector, cropping, classifier and their weights are inside the exported programs of a
model's folder, so this needs jax, numpy and the standard library only.
"""

import logging
import os

import jax
import numpy as np

from deepfer_jax.faces.face import Face, name_emotion
from deepfer_jax.inference import (
    DEFAULT_MODEL,
    ModelError,
    load_program,
    read_metadata,
)

ANALYZE = "analyze.jax_export"
READ = "read.jax_export"
# A frame is placed in the upper left of one of these heights and widths, so that few
# programs are ever compiled.
_SIDES = (240, 320, 480, 640, 720, 960, 1080, 1280, 1440, 1920, 2160, 2560, 3840)
# XLA's newer matrix and convolution kernels: twice as fast here.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}

_log = logging.getLogger(__name__)


class Analyzer:
    """Detector and classifier of a folder that scripts/export.py writes.

    May be called by several threads at once.

    Args:
      folder: of an exported model; by default the one that ships.

    Attributes:
      metadata: what is known of the model.
      classes: names of the probabilities, in order.
      threshold: probability below which a face is unsure; 0 if the model was exported
        without calibration.
      max_faces: that are found in one frame.

    Raises:
      ModelError: a file is missing, or this jax cannot read the program.
    """

    def __init__(self, folder: str | os.PathLike = DEFAULT_MODEL):
        self.metadata = read_metadata(folder)
        self.classes = tuple(self.metadata["classes"])
        calibration = self.metadata.get("calibration") or {}
        self.threshold = calibration.get("threshold", 0.0)
        if "faces" not in self.metadata:
            raise ModelError(
                f"{folder} finds no faces: export it again with scripts/export.py"
            )
        self.max_faces = self.metadata["faces"]["max_faces"]
        self._analyze = self._load(folder, ANALYZE)
        self._read = self._load(folder, READ)
        self._seen = set()

    def _load(self, folder: str | os.PathLike, name: str):
        program = load_program(folder, name, self.metadata)
        options = _CPU_OPTIONS if jax.default_backend() == "cpu" else None
        return jax.jit(program.call, compiler_options=options)

    def analyze(self, frames: np.ndarray) -> list[list[Face]]:
        """The faces of each frame, the surest first; none gives an empty list.

        Args:
          frames: uint8 [N, H, W, 3] or one [H, W, 3], RGB; at most 3840 pixels high and
            wide. A size that comes for the first time is compiled, which takes some
            seconds and is logged.

        Returns:
          For each frame its faces; boxes and landmarks in pixels of the frame.

        Raises:
          ModelError: an array of another type or shape.
        """
        frames, size = self._fit(frames)
        if len(frames) == 0:
            return []
        results = jax.device_get(self._analyze(frames, size))
        return [
            [
                self._create_face(box, score, landmarks, probabilities)
                for box, score, landmarks, there, probabilities in zip(
                    *result, strict=True
                )
                if there
            ]
            for result in zip(*results, strict=True)
        ]

    def read(
        self,
        frames: np.ndarray,
        frame_of: np.ndarray,
        boxes: np.ndarray,
        landmarks: np.ndarray,
    ) -> np.ndarray:
        """Probabilities of faces whose places are known already.

        Args:
          frames: as for `analyze`.
          frame_of: int [M], which frame each face is in.
          boxes: float32 [M, 4], as of a Face.
          landmarks: float32 [M, 6, 2], as of a Face.

        Returns:
          float32 [M, classes].

        Raises:
          ModelError: an array of another type or shape.
        """
        frames, size = self._fit(frames)
        num = len(boxes)
        if num == 0:
            return np.zeros((0, len(self.classes)), np.float32)
        # Up to a power of two, so that few numbers of faces are ever compiled.
        padding = [(0, (1 << (num - 1).bit_length()) - num)]
        faces = [
            np.pad(np.asarray(x, dtype), padding + [(0, 0)] * (np.ndim(x) - 1))
            for x, dtype in (
                (frame_of, np.int32),
                (boxes, np.float32),
                (landmarks, np.float32),
            )
        ]
        return np.asarray(self._read(frames, size, *faces))[:num]

    def _create_face(
        self,
        box: np.ndarray,
        score: float,
        landmarks: np.ndarray,
        probabilities: np.ndarray,
    ) -> Face:
        emotion, unsure = name_emotion(probabilities, self.classes, self.threshold)
        return Face(box, float(score), landmarks, emotion, probabilities, unsure)

    def _fit(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frames in an array whose sides are of _SIDES, and their true size."""
        frames = np.asarray(frames)
        frames = frames[None] if frames.ndim == 3 else frames
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise ModelError(
                "frames: expected uint8 [N, height, width, 3], RGB, found "
                f"{frames.dtype} {list(frames.shape)}"
            )
        height, width = frames.shape[1:3]
        if not (0 < height <= _SIDES[-1] and 0 < width <= _SIDES[-1]):
            raise ModelError(
                f"frames: expected 1 to {_SIDES[-1]} pixels high and wide, found "
                f"{height} x {width}: make them smaller first"
            )
        fitted = [min(s for s in _SIDES if s >= n) for n in (height, width)]
        shape = (len(frames), *fitted)
        if shape not in self._seen:
            self._seen.add(shape)
            _log.info(
                "compiling for %d frame(s) of up to %dx%d", len(frames), *fitted[::-1]
            )
        if (height, width) != tuple(fitted):
            edges = [(0, fitted[0] - height), (0, fitted[1] - width)]
            frames = np.pad(frames, [(0, 0), *edges, (0, 0)])
        return frames, np.array([height, width], np.int32)
