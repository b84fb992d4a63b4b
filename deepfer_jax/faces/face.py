"""What is known of one face in a frame."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np


class FindsFaces(Protocol):
    """What an Analyzer is to those that call it."""

    detector: str

    def analyze(self, frames: np.ndarray) -> "list[list[Face]]":
        """The faces of each frame, uint8 [N, H, W, 3] or one [H, W, 3], RGB."""


class Face(NamedTuple):
    """One face in one frame.

    Attributes:
      box: float32 [4], left, top, right and bottom in pixels of the frame, which may
        reach over its edges.
      score: the detector's, in [0, 1].
      landmarks: float32 [6, 2], x and y in pixels of the right and left eye (the
        person's own right, left in the picture, first), tip of the nose, mouth, right
        and left ear.
      label: the likeliest class.
      probability: of that class, in [0, 1].
      probabilities: float32 [classes].
      unsure: whether the probability is below the calibrated threshold; None if the
        model is not calibrated.
      track: the number that the face keeps from frame to frame; None where it is not
        followed.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray
    label: str
    probability: float
    probabilities: np.ndarray
    unsure: bool | None
    track: int | None = None

    def as_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """The face as JSON can hold it; probabilities by name, the track if any."""
        track = {} if self.track is None else {"track": self.track}
        return track | {
            "label": self.label,
            "probability": round(self.probability, 5),
            "unsure": self.unsure,
            "box": [round(float(x), 1) for x in self.box],
            "score": round(self.score, 4),
            "landmarks": [
                [round(float(x), 1) for x in point] for point in self.landmarks
            ],
            "probabilities": {
                name: round(float(p), 5)
                for name, p in zip(classes, self.probabilities, strict=True)
            },
        }
