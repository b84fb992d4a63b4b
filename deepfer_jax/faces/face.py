"""What is known of one face in a frame."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Face(NamedTuple):
    """One face in one frame.

    box is float32 [4], left, top, right and bottom in pixels of the frame, which may
    reach over its edges; score in [0, 1] is the detector's; landmarks are float32
    [6, 2], x and y in pixels of the right and left eye (the person's own right, left in
    the picture, first), tip of the nose, mouth, right and left ear; probabilities are
    float32 [classes] and emotion is the name of the most probable; unsure says that
    this one is below the calibrated threshold.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray
    emotion: str
    probabilities: np.ndarray
    unsure: bool

    def as_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """The face as JSON can hold it; probabilities by name."""
        return {
            "box": [round(float(x), 1) for x in self.box],
            "score": round(self.score, 4),
            "landmarks": [
                [round(float(x), 1) for x in point] for point in self.landmarks
            ],
            "emotion": self.emotion,
            "unsure": self.unsure,
            "probabilities": {
                name: round(float(p), 5)
                for name, p in zip(classes, self.probabilities, strict=True)
            },
        }


def name_emotion(
    probabilities: np.ndarray, classes: Sequence[str], threshold: float
) -> tuple[str, bool]:
    """The most probable class, and whether its probability is below the threshold."""
    best = int(probabilities.argmax())
    return classes[best], bool(probabilities[best] < threshold)
