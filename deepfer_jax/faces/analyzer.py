"""Finds the faces in frames and reads their emotions: `Analyzer().analyze(frames)`.

    analyzer = Analyzer()                      # the model that ships
    for face in analyzer.analyze(frames)[0]:
        print(face.box, face.emotion, face.unsure)

Detector, cropping, classifier and their weights are inside one exported program in a
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
# A frame is placed in the upper left of one of these heights and widths, so that few
# programs are ever compiled.
_SIDES = (240, 320, 480, 640, 720, 960, 1080, 1280, 1440, 1920, 2160, 2560, 3840)

_log = logging.getLogger(__name__)


def compiler_options() -> dict[str, str] | None:
    """Of `jax.jit` for these programs, on a CPU.

    XLA's newer kernels run twice as fast, and without trees of sums, which are of no
    use to arrays as small as these, compiling takes a tenth less time.
    """
    if jax.default_backend() != "cpu":
        return None
    return {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT",
        "xla_disable_hlo_passes": "tree_reduction_rewriter",
    }


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
        program = load_program(folder, ANALYZE, self.metadata)
        self._analyze = jax.jit(program.call, compiler_options=compiler_options())
        self._seen = set()

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
