"""Boxes, and how much of them two have in common.

    overlap(np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2]))         # a third

A box is left, top, right and bottom, along the last axis; the others are broadcast. xp
is `numpy` or `jax.numpy`.
"""

from typing import Any

import numpy as np


def area(boxes: Any, xp: Any = np) -> Any:
    """[..., 4] -> [...]; 0 where a side is not longer than 0."""
    return xp.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1)


def intersection(first: Any, second: Any, xp: Any = np) -> Any:
    """Area that two boxes [..., 4] share."""
    upper = xp.maximum(first[..., :2], second[..., :2])
    lower = xp.minimum(first[..., 2:], second[..., 2:])
    return area(xp.concatenate([upper, lower], -1), xp)


def overlap(first: Any, second: Any, xp: Any = np) -> Any:
    """Intersection over union of boxes [..., 4], in [0, 1]."""
    both = intersection(first, second, xp)
    union = area(first, xp) + area(second, xp) - both
    return both / xp.maximum(union, 1e-9)


def shared(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The part of the smaller box that both have, in [0, 1]."""
    smaller = np.minimum(area(first), area(second))
    return intersection(first, second) / np.maximum(smaller, 1e-9)
