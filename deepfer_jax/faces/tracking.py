"""Follows faces from frame to frame, and steadies what is read from them.

    tracker = Tracker(analyzer.classes, analyzer.threshold, time_constant=0.4)
    for track in tracker.update(faces, time):
        print(track.number, track.face.emotion)

Needs numpy and the standard library only.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deepfer_jax.faces.face import Face, name_emotion


class Track(NamedTuple):
    """A face with the number that it keeps while it is followed.

    The face's probabilities, emotion and unsure are smoothed; box, score and landmarks
    are this frame's.
    """

    number: int
    face: Face


class Tracker:
    """Gives each face the number of the face that it overlaps most in the frame before.

    Args:
      classes: names of the probabilities.
      threshold: probability below which a face is unsure.
      time_constant: seconds in which a change of the probabilities is followed by 63 %;
        0 does not smooth.
      lost_after: seconds after which a face that is not seen is forgotten.
      min_overlap: intersection over union that two boxes of one face have at least.
    """

    def __init__(
        self,
        classes: Sequence[str],
        threshold: float,
        time_constant: float = 0.4,
        lost_after: float = 0.5,
        min_overlap: float = 0.3,
    ):
        self._classes, self._threshold = tuple(classes), threshold
        self.time_constant, self._lost_after = time_constant, lost_after
        self._min_overlap = min_overlap
        self._numbers = itertools.count(1)
        self._seen: dict[int, tuple[Face, float]] = {}

    def update(self, faces: Sequence[Face], time: float) -> list[Track]:
        """Takes the faces of the next frame.

        Args:
          faces: as they were found, not smoothed.
          time: of the frame in seconds; never smaller than before.

        Returns:
          A track for each face, in the same order.
        """
        self._seen = {
            number: (face, last)
            for number, (face, last) in self._seen.items()
            if time - last <= self._lost_after
        }
        tracks = []
        for face, number in zip(faces, self._match(faces), strict=True):
            if number is None:
                number = next(self._numbers)
            else:
                face = self._smooth(face, *self._seen[number], time)
            self._seen[number] = (face, time)
            tracks.append(Track(number, face))
        return tracks

    def _match(self, faces: Sequence[Face]) -> list[int | None]:
        """The number of each face's track: pairs that overlap most come first."""
        pairs = [
            (overlap(face.box, old.box), i, number)
            for i, face in enumerate(faces)
            for number, (old, _) in self._seen.items()
        ]
        numbers: list[int | None] = [None] * len(faces)
        for value, i, number in sorted(pairs, reverse=True):
            if value < self._min_overlap:
                break
            if numbers[i] is None and number not in numbers:
                numbers[i] = number
        return numbers

    def _smooth(self, face: Face, old: Face, last: float, time: float) -> Face:
        if self.time_constant == 0:
            return face
        weight = 1 - math.exp(-(time - last) / self.time_constant)
        change = face.probabilities - old.probabilities
        probabilities = old.probabilities + np.float32(weight) * change
        emotion, unsure = name_emotion(probabilities, self._classes, self._threshold)
        return face._replace(
            probabilities=probabilities, emotion=emotion, unsure=unsure
        )


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    both = np.prod(np.maximum(sides, 0))
    areas = [np.prod(np.maximum(box[2:] - box[:2], 0)) for box in (first, second)]
    return float(both / max(sum(areas) - both, 1e-9))
