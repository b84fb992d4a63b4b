"""Where a face must be seen for its class: patches are hidden, one after another.

    heat = occlusion_map(predictor.predict, face, label=3)     # float32 [H, W]
    picture = tint(face, heat)                                 # uint8 [H, W, 3]

Zeiler & Fergus 2014 (arXiv:1311.2901). It asks the model nothing but probabilities, so
that it explains exported programs as well as networks, and checks other maps. Needs
numpy only.
"""

from collections.abc import Callable

import numpy as np

# Of the face's side: large enough to hide a mouth's half, small enough to tell it from
# the nose. 121 patches: one call of a Predictor.
_PATCH, _STEPS = 1 / 4, 11
# Red and blue, which the colour-blind tell apart.
_FOR, _AGAINST = np.array([214, 39, 40]), np.array([31, 119, 180])


def occlusion_map(
    predict: Callable[[np.ndarray], np.ndarray], face: np.ndarray, label: int
) -> np.ndarray:
    """How much the probability of a class falls where a face is hidden.

    Args:
      predict: uint8 [N, H, W, C] -> probabilities [N, classes].
      face: uint8 [H, W, C].
      label: the class.

    Returns:
      float32 [H, W] in [-1, 1]: for each pixel, the mean fall over the patches that
      hide it. Positive where the face speaks for the class, negative where against it.
    """
    hidden, places = hide_patches(face)
    probabilities = predict(np.concatenate([face[None], hidden]))[:, label]
    falls = probabilities[0] - probabilities[1:]
    total = np.tensordot(falls, places, 1)
    return (total / places.sum(0)).astype(np.float32)


def tint(face: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A face under its map: red where it is positive, blue where it is negative.

    Args:
      face: uint8 [H, W, 1 or 3].
      heat: float [H, W], of any scale: the strongest colour is its largest value's.

    Returns:
      uint8 [H, W, 3].
    """
    strength = (heat / max(float(np.abs(heat).max()), 1e-9))[..., None]
    opacity = 0.7 * np.abs(strength)
    color = np.where(strength > 0, _FOR, _AGAINST)
    return np.rint(face * (1 - opacity) + color * opacity).astype(np.uint8)


def hide_patches(face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A face with each patch hidden under the face's mean.

    Args:
      face: uint8 [H, W, C].

    Returns:
      uint8 [patches, H, W, C], and bool [patches, H, W], where each is hidden.
    """
    rows, columns = (_spans(size) for size in face.shape[:2])
    places = (rows[:, None, :, None] & columns[None, :, None, :]).reshape(
        -1, *face.shape[:2]
    )
    mean = np.rint(face.mean((0, 1))).astype(np.uint8)
    return np.where(places[..., None], mean, face), places


def _spans(size: int) -> np.ndarray:
    """bool [steps, size]: patches along one axis, from one edge to the other."""
    patch = max(1, round(size * _PATCH))
    starts = np.unique(np.linspace(0, size - patch, _STEPS).round().astype(int))
    pixels = np.arange(size)
    return (pixels >= starts[:, None]) & (pixels < starts[:, None] + patch)
