"""metrics: against scikit-learn and by hand, with masks and several devices."""

import jax
import numpy as np
import pytest
import sklearn.metrics

from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.evaluation.metrics import NUM_BINS, Metrics, summarize, wilson_interval


def random_predictions(num=500, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 7, num)
    logits = rng.normal(size=(num, 7)) + 1.5 * np.eye(7)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities.astype(np.float32), labels.astype(np.int32)


def sums_of(probabilities, labels, mask=None):
    mask = np.ones(len(labels), bool) if mask is None else mask
    return Metrics.single_from_model_output(
        losses=-np.log(probabilities[np.arange(len(labels)), labels]),
        probabilities=probabilities,
        labels=labels,
        mask=mask,
    )


def test_numbers_equal_scikit_learn():
    probabilities, labels = random_predictions()
    result = summarize(sums_of(probabilities, labels), EMOTIONS)
    predicted = probabilities.argmax(1)
    expected = sklearn.metrics.classification_report(
        labels, predicted, output_dict=True, target_names=EMOTIONS, zero_division=0
    )
    assert result["n"] == 500
    assert result["accuracy"] == pytest.approx(expected["accuracy"])
    assert result["macro_f1"] == pytest.approx(expected["macro avg"]["f1-score"])
    assert result["balanced_accuracy"] == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(labels, predicted)
    )
    assert result["nll"] == pytest.approx(
        sklearn.metrics.log_loss(labels, probabilities, labels=range(7)), rel=1e-5
    )
    for name in EMOTIONS:
        ours, theirs = result["per_class"][name], expected[name]
        assert ours["precision"] == pytest.approx(theirs["precision"])
        assert ours["recall"] == pytest.approx(theirs["recall"])
        assert ours["f1"] == pytest.approx(theirs["f1-score"])
        assert ours["support"] == theirs["support"]
    np.testing.assert_array_equal(
        result["confusion_matrix"], sklearn.metrics.confusion_matrix(labels, predicted)
    )


def test_missing_classes_equal_scikit_learn():
    probabilities, labels = random_predictions(60)
    keep = labels < 5
    probabilities[:, 3] = 0
    probabilities, labels = probabilities[keep] + 1e-6, labels[keep]
    result = summarize(sums_of(probabilities, labels), EMOTIONS)
    expected = sklearn.metrics.f1_score(
        labels, probabilities.argmax(1), average="macro", zero_division=0
    )
    assert result["macro_f1"] == pytest.approx(expected)
    assert result["per_class"]["happy"]["precision"] == 0


def test_calibration_error_by_hand():
    # Three faces of confidence 0.9 with two right, one of 0.5 that is wrong.
    probabilities = np.full((4, 7), 0.1 / 6, np.float32)
    probabilities[:3, 0] = 0.9
    probabilities[3] = 0.5 / 6
    probabilities[3, 0] = 0.5
    labels = np.array([0, 0, 1, 1], np.int32)
    result = summarize(sums_of(probabilities, labels), EMOTIONS)
    by_hand = (3 * abs(0.9 - 2 / 3) + 1 * abs(0.5 - 0)) / 4
    assert result["ece"] == pytest.approx(by_hand, abs=1e-6)
    filled = [i for i, b in enumerate(result["calibration_bins"]) if b["n"]]
    assert filled == [7, 13]
    assert len(result["calibration_bins"]) == NUM_BINS


def test_masked_and_merged_parts_equal_the_whole():
    probabilities, labels = random_predictions(100)
    whole = summarize(sums_of(probabilities, labels), EMOTIONS)
    first = sums_of(probabilities[:64], labels[:64])
    tail = np.r_[np.arange(64, 100), np.arange(28)]
    second = sums_of(probabilities[tail], labels[tail], np.arange(64) < 36)
    parts = summarize(first.merge(second), EMOTIONS)
    assert parts["confusion_matrix"] == whole["confusion_matrix"]
    assert parts["nll"] == pytest.approx(whole["nll"], rel=1e-6)
    assert parts["ece"] == pytest.approx(whole["ece"], abs=1e-6)


def test_gathered_over_devices_equals_single():
    probabilities, labels = random_predictions(12)
    single = sums_of(probabilities, labels)

    def per_device(p, y):
        return Metrics.gather_from_model_output(
            axis_name="batch",
            losses=-jax.numpy.log(jax.numpy.take_along_axis(p, y[:, None], 1)[:, 0]),
            probabilities=p,
            labels=y,
            mask=jax.numpy.ones(len(y), bool),
        )

    gathered = jax.vmap(per_device, axis_name="batch")(
        probabilities.reshape(3, 4, 7), labels.reshape(3, 4)
    )
    gathered = jax.tree.map(lambda x: x[0], gathered)
    np.testing.assert_allclose(
        gathered.confusion_matrix.counts, single.confusion_matrix.counts
    )
    np.testing.assert_allclose(
        gathered.calibration.sums, single.calibration.sums, rtol=1e-6
    )


def test_wilson_interval_against_published_case():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    low, high = wilson_interval(81, 263)
    assert low == pytest.approx(0.2553, abs=5e-5)
    assert high == pytest.approx(0.3662, abs=5e-5)
    assert wilson_interval(0, 10)[0] == pytest.approx(0)
