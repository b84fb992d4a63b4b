"""Ensembles: several networks' probabilities averaged, chosen without looking.

    members = load_members(["runs/a/eval/...npz", "runs/b/eval/...npz"])
    result = evaluate_ensemble(members, seed=0)

Which networks are averaged is chosen on one half of the faces and scored on the other,
and the other way round, so that the choice is not part of the score. The choice is
Caruana et al.'s (2004, doi:10.1145/1015330.1015432): from nothing, always the network
that helps most, each at most once.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepfer_jax.errors import UserError
from deepfer_jax.evaluation.metrics import wilson_interval
from deepfer_jax.evaluation.results import read_arrays


class Members(NamedTuple):
    """names of M networks, probabilities [M, faces, classes] and labels [faces]."""

    names: list[str]
    probabilities: np.ndarray
    labels: np.ndarray


def load_members(paths: Sequence[str | os.PathLike]) -> Members:
    """Reads what scripts/evaluate.py wrote beside its tables, of the same faces.

    Raises:
      UserError: a file is missing or damaged, or is of other faces.
    """
    names: list[str] = []
    probabilities: list[np.ndarray] = []
    first: dict[str, np.ndarray] = {}
    for path in map(pathlib.Path, paths):
        arrays = read_arrays(path)
        first = first or arrays
        same = all(np.array_equal(arrays[k], first[k]) for k in ("label", "id"))
        if not same:
            raise UserError(f"{path} and {paths[0]} are not of the same faces")
        names.append(str(path))
        probabilities.append(arrays["probabilities"])
    return Members(names, np.stack(probabilities), first["label"])


def choose(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    """Numbers of the members whose mean is most often right, in order of choice.

    Args:
      probabilities: [members, faces, classes].
      labels: int [faces].
    """
    chosen: list[int] = []
    best = (-1.0, 0.0)
    while len(chosen) < len(probabilities):
        rest = [i for i in range(len(probabilities)) if i not in chosen]
        scores = {i: _score(probabilities[[*chosen, i]], labels) for i in rest}
        winner = max(scores, key=lambda i: scores[i])
        if scores[winner] <= best:
            break
        chosen, best = [*chosen, winner], scores[winner]
    return chosen


def _score(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy of the mean; between equals, its mean log-likelihood decides."""
    mean = probabilities.mean(0)
    true = mean[np.arange(len(labels)), labels]
    return float((mean.argmax(1) == labels).mean()), float(np.log(true + 1e-12).mean())


def evaluate_ensemble(members: Members, seed: int = 0) -> dict[str, Any]:
    """Scores each member, all of them averaged, and the chosen ones, cross-fitted.

    Args:
      members: from `load_members`.
      seed: of the halves.

    Returns:
      n; single (accuracy by name); all, accuracy of the mean of all; chosen, two lists
      of names, by half; accuracy and accuracy_ci95 (Wilson) of the cross-fitted choice.
    """
    names, probabilities, labels = members
    order = np.random.default_rng(seed).permutation(len(labels))
    halves = np.array_split(order, 2)
    right, chosen = np.zeros(len(labels), bool), []
    for choice, score in (halves, halves[::-1]):
        picked = choose(probabilities[:, choice], labels[choice])
        mean = probabilities[picked][:, score].mean(0)
        right[score] = mean.argmax(1) == labels[score]
        chosen.append([names[i] for i in picked])
    single = (probabilities.argmax(2) == labels).mean(1)
    return {
        "n": len(labels),
        "single": {name: float(x) for name, x in zip(names, single, strict=True)},
        "all": _score(probabilities, labels)[0],
        "chosen": chosen,
        "accuracy": float(right.mean()),
        "accuracy_ci95": wilson_interval(int(right.sum()), len(labels)),
    }
