"""What a probability is worth: temperature, and the threshold for `unsure`.

    calibration = calibrate(probabilities, labels)
    calibration["temperature"], calibration["threshold"], calibration["coverage"]

Both are fitted on the validation split and stored in the exported model.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.optimize

from deepfer_jax.evaluation.metrics import Calibration, calibration_error

TARGET_ACCURACY = 0.9


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divides the logits behind probabilities [n, classes] by a temperature."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-30)) / temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Temperature of the lowest negative log-likelihood (Guo et al. 2017).

    Args:
      probabilities: float [n, classes], rows that sum to 1.
      labels: int [n].

    Returns:
      In [0.05, 20]: above 1 for an overconfident network.
    """
    faces = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = scale(probabilities, np.exp(log_temperature))
        return -np.log(np.maximum(scaled[faces, labels], 1e-30)).mean()

    bounds = np.log([0.05, 20.0])
    optimum = scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(np.exp(optimum.x))


def coverage_curve(
    probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Accuracy of the faces that are kept when unsure ones are left out.

    Args:
      probabilities: float [n, classes].
      labels: int [n].

    Returns:
      (thresholds, coverage, accuracy), each [distinct confidences], by falling
      threshold: a face is kept if its highest probability is at least the threshold.
    """
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    correct = (probabilities.argmax(1) == labels)[order]
    kept = np.arange(1, len(labels) + 1)
    accuracy = correct.cumsum() / kept
    # Faces of one confidence are kept or left out together.
    ends = np.append(np.diff(confidence[order]) != 0, True)
    return confidence[order][ends], (kept / len(labels))[ends], accuracy[ends]


def choose_threshold(
    probabilities: np.ndarray, labels: np.ndarray, accuracy: float = TARGET_ACCURACY
) -> tuple[float, float]:
    """The threshold that keeps most faces at that accuracy or a higher one.

    Returns:
      (threshold, coverage in [0, 1]); (1.0, 0.0) if no threshold reaches it.
    """
    thresholds, coverage, accuracies = coverage_curve(probabilities, labels)
    reached = np.flatnonzero(accuracies >= accuracy)
    if len(reached) == 0:
        return 1.0, 0.0
    return float(thresholds[reached[-1]]), float(coverage[reached[-1]])


def calibration_bins(
    probabilities: np.ndarray, labels: np.ndarray
) -> list[dict[str, float]]:
    """Faces by confidence, in bins of equal width: n, mean confidence, accuracy.

    Bin i of the 15 holds confidences in (i / 15, (i + 1) / 15].
    """
    sums = Calibration.from_model_output(
        probabilities=jnp.asarray(probabilities, jnp.float32),
        labels=jnp.asarray(labels),
        mask=jnp.ones(len(labels)),
    )
    return sums.bins()


def calibrate(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Fits temperature and threshold, and says what they change.

    `ece_after` is measured on the faces that the temperature was fitted on;
    `ece_after_cross_fitted` on each half of the faces after fitting on the other.

    Args:
      probabilities: float [n, classes], of the network as it was trained.
      labels: int [n].

    Returns:
      temperature, target_accuracy, threshold, coverage, n, ece_before, ece_after,
      ece_after_cross_fitted, bins_before and bins_after.
    """
    temperature = fit_temperature(probabilities, labels)
    after = scale(probabilities, temperature)
    threshold, coverage = choose_threshold(after, labels)
    bins_before = calibration_bins(probabilities, labels)
    bins_after = calibration_bins(after, labels)
    cross_fitted = np.empty_like(after)
    for half in (0, 1):
        fitted = fit_temperature(probabilities[1 - half :: 2], labels[1 - half :: 2])
        cross_fitted[half::2] = scale(probabilities[half::2], fitted)
    crossed = calibration_error(calibration_bins(cross_fitted, labels))
    return {
        "temperature": temperature,
        "target_accuracy": TARGET_ACCURACY,
        "threshold": threshold,
        "coverage": coverage,
        "n": len(labels),
        "ece_before": calibration_error(bins_before),
        "ece_after": calibration_error(bins_after),
        "ece_after_cross_fitted": crossed,
        "bins_before": bins_before,
        "bins_after": bins_after,
    }
