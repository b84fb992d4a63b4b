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
      quality: in [0, 1], how well the face can be read; below
        `inference.QUALITY_THRESHOLD` it is unsure.
      reason: what spoils it then: covered, blurred, noisy, dark, small or turned; else
        None.
      yaw: degrees by which the head is turned, positive where the nose points right in
        the picture, as the landmarks tell.
      roll: degrees by which it is tilted, clockwise in the picture.
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
    quality: float | None = None
    reason: str | None = None
    yaw: float | None = None
    roll: float | None = None
    track: int | None = None

    def as_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """The face as JSON can hold it; probabilities by name, the track if any."""
        track = {} if self.track is None else {"track": self.track}
        return track | {
            "label": self.label,
            "probability": round(self.probability, 5),
            "unsure": self.unsure,
            "quality": rounded(self.quality, 3),
            "reason": self.reason,
            "yaw": rounded(self.yaw, 1),
            "roll": rounded(self.roll, 1),
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


def rounded(value: float | None, digits: int) -> float | None:
    """A number of so many digits, or None where it is not known."""
    return None if value is None else round(value, digits)
