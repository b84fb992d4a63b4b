"""calibration: temperature and error against scikit-learn and brute force."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from deepfer_jax.evaluation import calibration


def draw(temperature, n=4000, seed=0):
    """Labels drawn from softmax(logits); probabilities are softmax(temperature * )."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 7)) * 2
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(7, p=row) for row in true])
    sharp = np.exp(logits * temperature)
    return (sharp / sharp.sum(1, keepdims=True)).astype(np.float32), labels, true


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoiled_probabilities_is_found(temperature):
    probabilities, labels, true = draw(temperature)
    found = calibration.fit_temperature(probabilities, labels)
    assert found == pytest.approx(temperature, rel=0.06)
    np.testing.assert_allclose(
        calibration.scale(probabilities, temperature), true, atol=1e-5
    )


def test_the_temperature_has_the_lowest_log_loss():
    probabilities, labels, _ = draw(1.7, n=500)

    def loss(temperature):
        scaled = calibration.scale(probabilities, temperature)
        return log_loss(labels, scaled, labels=range(7))

    found = calibration.fit_temperature(probabilities, labels)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 2000))
    assert loss(found) <= min(map(loss, grid)) + 1e-9


def test_the_threshold_keeps_most_faces_at_the_accuracy_that_is_asked():
    probabilities, labels, _ = draw(1.0, n=600)
    probabilities = probabilities.round(2)  # many faces of one confidence
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    best = max(
        (
            (confidence >= t).mean()
            for t in np.unique(confidence)
            if right[confidence >= t].mean() >= 0.9
        ),
        default=0.0,
    )
    threshold, coverage = calibration.choose_threshold(probabilities, labels, 0.9)
    assert coverage == pytest.approx(best)
    kept = confidence >= threshold
    assert kept.mean() == pytest.approx(best)
    assert right[kept].mean() >= 0.9


def test_no_threshold_reaches_what_no_face_allows():
    probabilities = np.full((10, 2), 0.5, np.float32)
    labels = np.ones(10, int)  # argmax says 0 for each
    assert calibration.choose_threshold(probabilities, labels) == (1.0, 0.0)


def test_calibration_error_by_hand():
    # Two faces of confidence .9, one right; one face of confidence .6, right.
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4]])
    bins = calibration.calibration_bins(probabilities, np.array([0, 0, 0]))
    assert calibration.calibration_error(bins) == pytest.approx((2 * 0.4 + 0.4) / 3)


def test_calibrating_an_overconfident_network():
    probabilities, labels, _ = draw(2.0)
    found = calibration.calibrate(probabilities, labels)
    assert found["ece_before"] > 0.1
    assert found["ece_after"] < 0.03
    assert found["ece_after_cross_fitted"] < 0.03
    assert sum(b["n"] for b in found["bins_after"]) == len(labels)
