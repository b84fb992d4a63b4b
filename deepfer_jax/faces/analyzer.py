"""Finds the faces in frames and reads their emotions: `Analyzer().analyze(frames)`.

    analyzer = Analyzer()                      # the model that ships
    for face in analyzer.analyze(frames)[0]:
        print(face.box, face.label, face.unsure)

Detector, cropping and classifier are one exported program in a model's folder, so this
needs jax, numpy and the standard library only.
"""

import functools
import math
import os
from collections.abc import Iterator

import jax
import numpy as np

from deepfer_jax.executables import Executable
from deepfer_jax.exported import ExportedModel, ModelError
from deepfer_jax.faces.face import Face
from deepfer_jax.inference import DEFAULT_MODEL, name_cause, name_class

# What finds faces: "auto" is `full`, and stills are searched in tiles too (`photos`).
DETECTORS = ("auto", "short", "full")
# Heights and widths. A frame lies in the upper left of the first that holds it, so that
# few programs are ever compiled: those of cameras, and squares for all others.
_CANVASES = (
    (480, 640),
    (720, 1280),
    (1280, 1280),
    (1080, 1920),
    (1920, 1920),
    (3840, 3840),
)
_LONGEST = _CANVASES[-1][0]
# Frames in one call on an accelerator; a CPU is faster with one after the other.
_BATCH = 8


def compiler_options() -> dict[str, str]:
    """Of `jax.jit` for these programs, on a CPU; not every jax knows them.

    XLA's newer kernels run twice as fast, and without trees of sums, which are of no
    use to arrays as small as these, compiling takes a tenth less time.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {
        "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT",
        "xla_disable_hlo_passes": "tree_reduction_rewriter",
    }


def analyze_name(detector: str) -> str:
    """The file of the program that finds faces with this detector."""
    return f"analyze_{detector}.jax_export"


class Analyzer:
    """Detector and classifier of a model that ships, or that scripts/export.py wrote.

    May be called by several threads at once.

    Args:
      model: a name (`exported.shipped_models`) or a folder.
      detector: one of DETECTORS: `full` finds small faces too, `short` those near a
        camera in half the time.
      cache: False keeps nothing that is compiled for the next process
        (`deepfer_jax.executables`).

    Attributes:
      folder: of the model.
      cache: as given.
      metadata: what is known of the model.
      classes: names of the probabilities, in order.
      threshold: probability below which a face is unsure; None if the model was
        exported without calibration.
      causes: names of what can spoil a face.
      detector: as given.
      max_faces: that are found in one frame.

    Raises:
      ModelError: there is no such model or detector, it is damaged, or this jax cannot
        read it.
    """

    def __init__(
        self,
        model: str | os.PathLike = DEFAULT_MODEL,
        detector: str = "auto",
        cache: bool = True,
    ):
        if detector not in DETECTORS:
            raise ModelError(
                f"detector: expected one of {', '.join(DETECTORS)}, found {detector!r}"
            )
        exported = ExportedModel(model)
        self.folder, self.cache = exported.folder, cache
        self.metadata, self.detector = exported.metadata, detector
        self.classes = tuple(self.metadata["classes"])
        calibration = self.metadata.get("calibration") or {}
        self.threshold = calibration.get("threshold")
        if "causes" not in self.metadata.get("faces", {}):
            raise ModelError(
                f"{exported.folder} was exported before faces had a quality: "
                f"python scripts/export.py --model {exported.folder} --out NEW_MODEL"
            )
        self.max_faces = self.metadata["faces"]["max_faces"]
        self.causes = tuple(self.metadata["faces"]["causes"])
        name = analyze_name("short" if detector == "short" else "full")
        self._analyze = Executable(
            *exported.load(name),
            compiler_options(),
            cache,
            functools.partial(exported.build_again, name),
        )

    def analyze(self, frames: np.ndarray) -> list[list[Face]]:
        """The faces of each frame, the surest first; none gives an empty list.

        At most eleven programs are ever compiled, each when it is first needed, which
        takes some seconds and is logged: one frame and eight, of six sizes. A size in
        between is filled up with black: on two CPU cores a frame of 640x480, in 2.6 ms
        by itself, would take 3.3 in 1280x720, 3.6 in 1280x1280, 3.9 in 1920x1080, 4.7
        in 1920x1920 and 23 in 3840x3840. Up to seven frames are read one by one, more
        in eights, the last eight filled up; those of over 1920 pixels always one by
        one, for the sake of memory (a black one of 3840x3840 has 44 MB).

        Args:
          frames: uint8 [N, H, W, 3] or one [H, W, 3], RGB; at most 3840 pixels high and
            wide.

        Returns:
          For each frame its faces; boxes and landmarks in pixels of the frame.

        Raises:
          ModelError: an array of another type or shape.
        """
        frames = _check(frames)
        faces = []
        for placed, size in place_frames(frames):
            results = jax.device_get(self._analyze(placed, size))
            faces += [
                [
                    self._create_face(box, score, landmarks, *readings)
                    for box, score, landmarks, there, *readings in zip(
                        *result, strict=True
                    )
                    if there
                ]
                for result in zip(*results, strict=True)
            ]
        return faces[: len(frames)]

    def _create_face(
        self,
        box: np.ndarray,
        score: float,
        landmarks: np.ndarray,
        probabilities: np.ndarray,
        strengths: np.ndarray,
        pose: np.ndarray,
    ) -> Face:
        cause = name_cause(strengths, self.causes)
        named = name_class(probabilities, self.classes, self.threshold, *cause)
        yaw, roll = map(float, pose)
        return Face(box, float(score), landmarks, **named._asdict(), yaw=yaw, roll=roll)


def _check(frames: np.ndarray) -> np.ndarray:
    """One frame or many as uint8 [N, H, W, 3]; raises ModelError."""
    frames = np.asarray(frames)
    frames = frames[None] if frames.ndim == 3 else frames
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise ModelError(
            "frames: expected uint8 [N, height, width, 3], RGB, found "
            f"{frames.dtype} {list(frames.shape)}"
        )
    height, width = frames.shape[1:3]
    if not (0 < height <= _LONGEST and 0 < width <= _LONGEST):
        raise ModelError(
            f"frames: expected 1 to {_LONGEST} pixels high and wide, found "
            f"{height} x {width}: make them smaller first"
        )
    return frames


def place_frames(frames: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Gives the frames, some at a time, on canvases, and their true size."""
    height, width = frames.shape[1:3]
    canvas = next(c for c in _CANVASES if c[0] >= height and c[1] >= width)
    many = jax.default_backend() != "cpu" and canvas != _CANVASES[-1]
    num = _BATCH if many and len(frames) >= _BATCH else 1
    size = np.array([height, width], np.int32)
    for start in range(0, len(frames), num):
        some = frames[start : start + num]
        if some.shape[:3] != (num, *canvas):
            placed = _create_black(num, *canvas, 3)
            placed[: len(some), :height, :width] = some
            some = placed
        yield some, size


def _create_black(*shape: int) -> np.ndarray:
    """Zeros uint8 at a multiple of 64 bytes, which XLA reads without copying them.

    With 3840x3840 pixels that is half the time of a small picture's call.
    """
    memory = np.zeros(math.prod(shape) + 63, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + math.prod(shape)].reshape(shape)
