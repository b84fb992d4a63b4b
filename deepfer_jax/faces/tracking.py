"""Follows faces from frame to frame, and steadies what is read from them.

    tracker = Tracker(analyzer.classes, analyzer.threshold, time_constant=0.4)
    for face in tracker.update(faces, time):
        print(face.track, face.label)

Needs numpy and the standard library only.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deepfer_jax.faces.boxes import overlap
from deepfer_jax.faces.face import Face
from deepfer_jax.inference import name_class


class _Seen(NamedTuple):
    """A face as it was last seen, when that was, and frames without it since."""

    face: Face
    time: float
    missed: int = 0


class Tracker:
    """Gives each face the number of the face that it overlaps most in the frame before.

    A face that the detector misses for a frame or two is carried on where it was.

    Args:
      classes: names of the probabilities.
      threshold: probability below which a face is unsure, or None.
      time_constant: seconds in which a change of the probabilities is followed by 63 %;
        0 does not smooth.
      lost_after: seconds after which a face that is not seen is forgotten.
      min_overlap: intersection over union that two boxes of one face have at least.
      max_missed: frames in a row for which a face that is not seen is carried on.
    """

    def __init__(
        self,
        classes: Sequence[str],
        threshold: float | None,
        time_constant: float = 0.4,
        lost_after: float = 0.5,
        min_overlap: float = 0.3,
        max_missed: int = 2,
    ):
        self._classes, self._threshold = tuple(classes), threshold
        self.time_constant, self._lost_after = time_constant, lost_after
        self._min_overlap, self._max_missed = min_overlap, max_missed
        self._numbers = itertools.count(1)
        self._seen: dict[int, _Seen] = {}

    def update(self, faces: Sequence[Face], time: float) -> list[Face]:
        """Takes the faces of the next frame.

        Args:
          faces: as they were found, not smoothed.
          time: of the frame in seconds; never smaller than before.

        Returns:
          The faces in the same order with their `track`, label, probabilities and
          unsure smoothed; after them those that are carried on.
        """
        self._seen = {
            number: seen
            for number, seen in self._seen.items()
            if time - seen.time <= self._lost_after
        }
        tracked = []
        for face, number in zip(faces, self._match(faces), strict=True):
            if number is None:
                number = next(self._numbers)
            else:
                face = self._smooth(face, self._seen[number], time)
            tracked.append(face._replace(track=number))
        carried = self._carry(tracked)
        for face in tracked:
            self._seen[face.track or 0] = _Seen(face, time)
        return tracked + carried

    def forget(self) -> None:
        """Forgets all faces: the next frame is of another picture."""
        self._seen = {}

    def _match(self, faces: Sequence[Face]) -> list[int | None]:
        """The number of each face's track: pairs that overlap most come first."""
        pairs = [
            (float(overlap(face.box, seen.face.box)), i, number)
            for i, face in enumerate(faces)
            for number, seen in self._seen.items()
        ]
        numbers: list[int | None] = [None] * len(faces)
        for value, i, number in sorted(pairs, reverse=True):
            if value < self._min_overlap:
                break
            if numbers[i] is None and number not in numbers:
                numbers[i] = number
        return numbers

    def _carry(self, tracked: Sequence[Face]) -> list[Face]:
        """Faces that are missing, where no other face has come."""
        carried = []
        for number in self._seen.keys() - {face.track for face in tracked}:
            seen = self._seen[number]
            self._seen[number] = seen._replace(missed=seen.missed + 1)
            free = all(
                overlap(seen.face.box, face.box) < self._min_overlap for face in tracked
            )
            if free and seen.missed < self._max_missed:
                carried.append(seen.face)
        return sorted(carried, key=lambda face: face.track or 0)

    def _smooth(self, face: Face, seen: _Seen, time: float) -> Face:
        if self.time_constant == 0:
            return face
        weight = 1 - math.exp(-(time - seen.time) / self.time_constant)
        old = seen.face.probabilities
        probabilities = old + np.float32(weight) * (face.probabilities - old)
        cause = (face.quality, face.reason)
        named = name_class(probabilities, self._classes, self._threshold, *cause)
        return face._replace(**named._asdict())
