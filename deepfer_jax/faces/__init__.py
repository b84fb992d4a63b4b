"""From frames to faces: detection, cropping, emotions, tracks.

for face in faces.analyze(frame)[0]:
    print(face.box, face.label, face.unsure)
"""

import functools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from deepfer_jax.faces.analyzer import Analyzer
    from deepfer_jax.faces.face import Face


def analyze(frames: np.ndarray) -> "list[list[Face]]":
    """The faces of each frame, by the model that ships: as `analyzer.Analyzer.analyze`.

    Args:
      frames: uint8 [N, H, W, 3] or one [H, W, 3], RGB.

    Returns:
      For each frame its faces, the surest first; none gives an empty list.

    Raises:
      ModelError: an array of another type or shape.
    """
    return _load_analyzer().analyze(frames)


@functools.cache
def _load_analyzer() -> "Analyzer":
    # Not at the top: tracking and its like need no jax.
    from deepfer_jax.faces.analyzer import Analyzer

    return Analyzer()
