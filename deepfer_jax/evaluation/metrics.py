"""Evaluation metrics as clu.metrics: sums on the device, masked, of any batch size.

    sums = Metrics.gather_from_model_output(
        axis_name="batch", losses=..., probabilities=..., labels=..., mask=...)
    total = sums if total is None else total.merge(sums)
    summarize(total)["accuracy"]

Every count is exact up to 2^24 faces.
"""

import math
from collections.abc import Sequence

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

NUM_BINS = 15


@flax.struct.dataclass
class ConfusionMatrix(clu_metrics.Metric):
    """counts: float32 [true class, predicted class]."""

    counts: jax.Array

    @classmethod
    def from_model_output(cls, *, probabilities, labels, mask, **_):
        num_classes = probabilities.shape[-1]
        true = jax.nn.one_hot(labels, num_classes) * mask[:, None]
        predicted = jax.nn.one_hot(probabilities.argmax(-1), num_classes)
        return cls(counts=true.T @ predicted)

    def merge(self, other):
        return self.replace(counts=self.counts + other.counts)

    def compute(self):
        return self.counts


@flax.struct.dataclass
class Calibration(clu_metrics.Metric):
    """Faces by confidence, in NUM_BINS bins of equal width (Guo et al. 2017).

    sums: float32 [bin, 3], of ones, of confidence (the highest probability) and of
    correctness. Bin i holds confidences in (i / 15, (i + 1) / 15].
    """

    sums: jax.Array

    @classmethod
    def from_model_output(cls, *, probabilities, labels, mask, **_):
        confidence = probabilities.max(-1)
        correct = probabilities.argmax(-1) == labels
        bins = jnp.clip(jnp.ceil(confidence * NUM_BINS) - 1, 0, NUM_BINS - 1)
        member = jax.nn.one_hot(bins.astype(jnp.int32), NUM_BINS) * mask[:, None]
        values = jnp.stack([jnp.ones_like(confidence), confidence, correct], axis=-1)
        return cls(sums=member.T @ values)

    def merge(self, other):
        return self.replace(sums=self.sums + other.sums)

    def compute(self):
        return self.sums

    def bins(self) -> list[dict[str, float]]:
        """For each bin, n of its faces, their mean confidence and accuracy."""
        sums = np.asarray(jax.device_get(self.sums), np.float64)
        means = _ratio(sums[:, 1:], sums[:, :1])
        return [
            {"n": int(n), "confidence": float(confidence), "accuracy": float(accuracy)}
            for n, (confidence, accuracy) in zip(sums[:, 0], means, strict=True)
        ]


@flax.struct.dataclass
class Metrics(clu_metrics.Collection):
    nll: clu_metrics.Average.from_output("losses")  # type: ignore[valid-type]
    confusion_matrix: ConfusionMatrix
    calibration: Calibration


def wilson_interval(correct: float, n: int, z: float = 1.959964) -> list[float]:
    """95 % interval of a proportion (Wilson 1927): [low, high] in [0, 1]."""
    p = correct / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return [float((centre + s * spread) / (1 + z * z / n)) for s in (-1, 1)]


def calibration_error(bins: list[dict[str, float]]) -> float:
    """Expected calibration error of `Calibration.bins`: fraction in [0, 1]."""
    gaps = sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins)
    return gaps / sum(b["n"] for b in bins)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def summarize(metrics: Metrics, classes: Sequence[str]) -> dict:
    """Turns sums into the numbers of an evaluation, ready for JSON.

    A class that was never predicted has precision 0, as in scikit-learn with
    `zero_division=0`. Macro-F1 is the mean over classes that occur or are predicted,
    balanced accuracy the mean recall over classes that occur.

    Args:
      metrics: sums over the whole split.
      classes: names in label order.

    Returns:
      n, accuracy, accuracy_ci95, macro_f1, balanced_accuracy, nll, ece, per_class,
      confusion_matrix (rows are true classes) and calibration_bins; fractions in [0,
      1].
    """
    computed = jax.device_get(metrics.compute())
    matrix = np.asarray(computed["confusion_matrix"], np.float64)
    bins = metrics.calibration.bins()
    support, predicted, hits = matrix.sum(1), matrix.sum(0), np.diag(matrix)
    n = int(support.sum())
    recall, precision = _ratio(hits, support), _ratio(hits, predicted)
    f1 = _ratio(2 * hits, support + predicted)
    return {
        "n": n,
        "accuracy": float(hits.sum() / n),
        "accuracy_ci95": wilson_interval(hits.sum(), n),
        "macro_f1": float(f1[support + predicted > 0].mean()),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "nll": float(computed["nll"]),
        "ece": calibration_error(bins),
        "per_class": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, name in enumerate(classes)
        },
        "confusion_matrix": matrix.astype(int).tolist(),
        "calibration_bins": bins,
    }
