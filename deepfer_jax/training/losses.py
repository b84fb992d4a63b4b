"""Cross entropy with soft targets, label smoothing and class weights.

    targets = smooth_labels(one_hot, 0.1)
    losses = cross_entropy(logits, targets)                     # [batch]
    loss = (weights * losses).sum() / weights.sum()

With hard labels and weights = class_weights[label] this mean is that of PyTorch's
`cross_entropy(weight=..., reduction="mean")`; with soft targets an example weighs
`targets @ class_weights`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

CLASS_WEIGHTS = ("none", "balanced", "sqrt_balanced")


def smooth_labels(targets: jax.Array, smoothing: float) -> jax.Array:
    """Gives `smoothing` of the mass to all classes alike (arXiv:1512.00567).

    Args:
      targets: float [batch, classes], rows that sum to 1.
      smoothing: in [0, 1].
    """
    return optax.smooth_labels(targets, smoothing)


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns -sum(targets * log softmax(logits)), float32 [batch].

    Args:
      logits: [batch, classes].
      targets: float [batch, classes], rows that sum to 1.
    """
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


def distill(
    losses: jax.Array,
    logits: jax.Array,
    taught: jax.Array,
    weight: float,
    temperature: float,
) -> jax.Array:
    """Mixes a teacher into losses (Hinton et al. 2015, arXiv:1503.02531).

    Args:
      losses: float32 [batch], with the labels.
      logits: [batch, classes], of the student.
      taught: float [batch, classes], the teacher's probabilities at this temperature.
      weight: share of the teacher, in [0, 1].
      temperature: by which logits are divided.

    Returns:
      (1 - weight) losses + weight temperature^2 CE(taught, softmax(logits /
      temperature)), float32 [batch]: the square keeps gradients as large as at 1.
    """
    soft = temperature**2 * cross_entropy(logits / temperature, taught)
    return (1 - weight) * losses + weight * soft


def class_weights_from_counts(counts: np.ndarray, kind: str) -> jax.Array:
    """Weights by which rare classes count more.

    Args:
      counts: int [classes], examples of each class.
      kind: "balanced", n / (classes * count) as in scikit-learn; or
        "sqrt_balanced", its square root.

    Returns:
      float32 [classes].

    Raises:
      ValueError: unknown kind, or a class without an example.
    """
    if kind not in CLASS_WEIGHTS[1:]:
        raise ValueError(
            f"class_weights: expected one of {CLASS_WEIGHTS[1:]}, found {kind!r}"
        )
    counts = np.asarray(counts, np.float64)
    if not counts.all():
        raise ValueError(
            f"class_weights={kind!r}: class {int(np.argmin(counts))} has no example"
        )
    weights = counts.sum() / (len(counts) * counts)
    if kind == "sqrt_balanced":
        weights = np.sqrt(weights)
    return jnp.asarray(weights, jnp.float32)
