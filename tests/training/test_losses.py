"""losses: against scikit-learn and cases by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import sklearn.utils.class_weight

from deepfer_jax.training import losses


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(50, 7)) * 3), rng.integers(0, 7, 50)


def test_hard_labels_equal_scikit_learn(data):
    logits, labels = data
    ours = losses.cross_entropy(logits, jax.nn.one_hot(labels, 7))
    probabilities = np.asarray(jax.nn.softmax(logits), np.float64)
    expected = sklearn.metrics.log_loss(labels, probabilities, labels=range(7))
    assert float(ours.mean()) == pytest.approx(expected, rel=1e-5)
    assert ours.shape == (50,)


def test_soft_targets_are_linear_in_the_target(data):
    logits, labels = data
    a, b = jax.nn.one_hot(labels, 7), jax.nn.one_hot((labels + 1) % 7, 7)
    mixed = losses.cross_entropy(logits, 0.3 * a + 0.7 * b)
    parts = 0.3 * losses.cross_entropy(logits, a) + 0.7 * losses.cross_entropy(
        logits, b
    )
    np.testing.assert_allclose(mixed, parts, rtol=1e-5)


def test_smoothing_by_hand():
    smooth = losses.smooth_labels(jnp.eye(4)[:1], 0.2)
    np.testing.assert_allclose(smooth, [[0.85, 0.05, 0.05, 0.05]], rtol=1e-6)


def test_bfloat16_logits_are_summed_in_float32(data):
    logits, labels = data
    loss = losses.cross_entropy(logits.astype(jnp.bfloat16), jax.nn.one_hot(labels, 7))
    assert loss.dtype == jnp.float32


def test_distillation_is_the_softened_divergence_of_pytorch_s_recipe(data):
    logits, labels = data
    rng = np.random.default_rng(1)
    teacher = rng.normal(size=(50, 7)) * 3
    with_labels = losses.cross_entropy(logits, jax.nn.one_hot(labels, 7))
    taught = jax.nn.softmax(jnp.asarray(teacher) / 2.0)
    ours = losses.distill(with_labels, logits, taught, 0.75, 2.0)
    # T^2 KL(teacher || student) differs by the teacher's entropy, a constant.
    student = np.asarray(logits, np.float64) / 2
    student -= scipy.special.logsumexp(student, axis=1, keepdims=True)
    p = scipy.special.softmax(teacher / 2, axis=1)
    divergence = scipy.special.rel_entr(p, np.exp(student)).sum(1)
    entropy = scipy.special.entr(p).sum(1)
    expected = 0.25 * np.asarray(with_labels) + 0.75 * 4 * (divergence + entropy)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_the_teacher_s_share_is_nothing_at_0_and_all_at_1(data):
    logits, labels = data
    with_labels = losses.cross_entropy(logits, jax.nn.one_hot(labels, 7))
    taught = jax.nn.softmax(logits)
    none = losses.distill(with_labels, logits, taught, 0.0, 2.0)
    np.testing.assert_array_equal(none, with_labels)

    def total(logits):
        return losses.distill(with_labels, logits, taught, 1.0, 1.0).sum()

    # A student that says what its teacher says has nothing to learn.
    np.testing.assert_allclose(jax.grad(total)(logits), 0, atol=1e-6)


def test_balanced_weights_equal_scikit_learn():
    labels = np.repeat(np.arange(4), [40, 5, 15, 20])
    expected = sklearn.utils.class_weight.compute_class_weight(
        "balanced", classes=np.arange(4), y=labels
    )
    counts = np.bincount(labels)
    ours = losses.class_weights_from_counts(counts, "balanced")
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    root = losses.class_weights_from_counts(counts, "sqrt_balanced")
    np.testing.assert_allclose(root, np.sqrt(expected), rtol=1e-6)


def test_bad_class_weights_are_refused():
    with pytest.raises(ValueError, match=r"'balanced'.*found 'equal'"):
        losses.class_weights_from_counts(np.ones(3), "equal")
    with pytest.raises(ValueError, match="class 1 has no example"):
        losses.class_weights_from_counts(np.array([3, 0, 2]), "balanced")
