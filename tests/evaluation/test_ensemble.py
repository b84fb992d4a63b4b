"""ensemble: the choice by hand, the score on faces that were not chosen on."""

import numpy as np
import pytest

from deepfer_jax.errors import UserError
from deepfer_jax.evaluation.ensemble import (
    Members,
    choose,
    evaluate_ensemble,
    load_members,
)


def one_hot(labels, confidence=0.9):
    rest = (1 - confidence) / 2
    return np.where(np.eye(3)[labels] > 0, confidence, rest)


def test_choice_by_hand():
    labels = np.array([0, 1, 2, 0, 1, 2])
    good = one_hot([0, 1, 2, 0, 2, 0], 0.6)  # four right
    other = one_hot([1, 2, 0, 0, 1, 2], 0.9)  # three, and sure where `good` is wrong
    bad = one_hot([1, 2, 0, 1, 2, 0], 0.9)
    assert choose(np.stack([bad, good, other]), labels) == [1]
    sure = one_hot([1, 1, 2, 2, 1, 2], 0.7)  # four right, more likely
    assert choose(np.stack([bad, good, sure]), labels)[0] == 2


def test_members_that_complement_each_other_are_averaged():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 2000)
    logits = np.eye(3)[labels] * 1.5 + rng.normal(size=(4, 2000, 3)) * 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    result = evaluate_ensemble(Members(list("abcd"), probabilities, labels))
    assert result["n"] == 2000
    assert max(result["single"].values()) + 0.05 < result["accuracy"]
    assert result["accuracy"] == pytest.approx(result["all"], abs=0.02)
    assert all(len(names) >= 3 for names in result["chosen"])
    low, high = result["accuracy_ci95"]
    assert low < result["accuracy"] < high


def test_the_choice_is_not_part_of_the_score():
    """Of many that guess, the best on one half is no better on the other."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 200)
    guesses = one_hot(rng.integers(0, 3, (60, 200)))
    chosen = choose(guesses, labels)
    looked = (guesses[chosen].mean(0).argmax(1) == labels).mean()
    honest = evaluate_ensemble(Members([str(i) for i in range(60)], guesses, labels))
    assert looked > 0.45
    assert honest["accuracy"] < 0.42


def test_files_of_other_faces_and_damaged_ones_are_refused(tmp_path):
    def write(name, labels):
        np.savez(
            tmp_path / name,
            probabilities=one_hot(labels),
            label=np.array(labels),
            id=np.array([str(i) for i in range(len(labels))]),
        )
        return tmp_path / name

    a, b = write("a.npz", [0, 1, 2]), write("b.npz", [0, 1, 2])
    assert load_members([a, b]).probabilities.shape == (2, 3, 3)
    with pytest.raises(UserError, match="not of the same faces"):
        load_members([a, write("c.npz", [0, 1, 1])])
    (tmp_path / "d.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"d\.npz: expected probabilities"):
        load_members([a, tmp_path / "d.npz"])
