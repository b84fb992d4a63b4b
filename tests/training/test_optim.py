"""optim: schedules by known points, decay on kernels only, PyTorch's SGD by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from deepfer_jax.errors import UserError
from deepfer_jax.training import optim
from deepfer_jax.training.groups import Groups


def create_optimizer(config, schedule):
    """Of all parameters at one rate."""
    return optim.create_optimizer(config, schedule, Groups().phase(0), 10)


def optimizer_config(**fields):
    config = default.get_config().optimizer
    config.update(fields)
    return config


def rates(num_steps=100, steps_per_epoch=10, **fields):
    fields = {"learning_rate": 0.5, "warmup_epochs": 1.0} | fields
    schedule = optim.create_schedule(
        optimizer_config(**fields), steps_per_epoch, num_steps
    )
    return np.array([schedule(step) for step in range(num_steps + 1)])


def test_cosine_with_warmup():
    lr = rates(schedule="cosine")
    np.testing.assert_allclose(lr[:11], np.linspace(0, 0.5, 11), atol=1e-6)
    t = np.arange(91) / 90
    np.testing.assert_allclose(lr[10:], 0.25 * (1 + np.cos(np.pi * t)), atol=1e-6)


def test_step_falls_at_fractions_of_the_whole_run():
    lr = rates(schedule="step", step_fractions=(0.5, 0.75), step_factor=0.1)
    np.testing.assert_allclose(lr[[10, 49]], 0.5, rtol=1e-6)
    np.testing.assert_allclose(lr[[51, 74]], 0.05, rtol=1e-6)
    np.testing.assert_allclose(lr[[76, 99]], 0.005, rtol=1e-6)


def test_one_cycle_peaks_after_warmup():
    lr = rates(schedule="one_cycle", warmup_epochs=3.0)
    assert lr.argmax() == 30
    assert lr.max() == pytest.approx(0.5)
    assert lr[0] < 0.1
    assert lr[-1] < 1e-3


def test_constant_and_no_warmup():
    assert (rates(schedule="constant", warmup_epochs=0.0) == 0.5).all()


def test_unknown_names_and_too_long_warmup_are_refused():
    with pytest.raises(UserError, match=r"schedule.*'cosine'.*found 'cos'"):
        rates(schedule="cos")
    with pytest.raises(UserError, match=r"warmup_epochs=20.* 200 steps.* 100"):
        rates(warmup_epochs=20.0)
    with pytest.raises(UserError, match=r"optimizer.name.*found 'adam'"):
        create_optimizer(optimizer_config(name="adam"), lambda _: 0.1)


@pytest.fixture
def params():
    layer = {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full(2, 2.0)}
    return {"layer": layer, "norm": {"scale": jnp.full(2, 2.0)}}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_moves_kernels_only(params, name):
    config = optimizer_config(name=name, weight_decay=0.1)
    optimizer = create_optimizer(config, lambda _: 0.1)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    assert (np.asarray(updates["layer"]["kernel"]) < 0).all()
    assert not np.asarray(updates["layer"]["bias"]).any()
    assert not np.asarray(updates["norm"]["scale"]).any()


def test_sgd_is_nesterov_with_coupled_decay(params):
    # By hand, as in Sutskever et al. 2013 and PyTorch's SGD(nesterov=True):
    # g = grad + decay * w; m = mu * m + g; w -= lr * (g + mu * m).
    config = optimizer_config(name="sgd", weight_decay=0.1, momentum=0.9, clip_norm=0.0)
    optimizer = create_optimizer(config, lambda _: 0.01)
    state, tree = optimizer.init(params), params
    w, m = 2.0, 0.0
    for grad in (1.0, -0.5, 0.25):
        grads = jax.tree.map(lambda x, g=grad: jnp.full_like(x, g), tree)
        updates, state = optimizer.update(grads, state, tree)
        tree = jax.tree.map(jnp.add, tree, updates)
        g = grad + 0.1 * w
        m = 0.9 * m + g
        w -= 0.01 * (g + 0.9 * m)
    np.testing.assert_allclose(tree["layer"]["kernel"], w, rtol=1e-6)


def test_clipping_is_by_the_global_norm(params):
    config = optimizer_config(name="sgd", weight_decay=0.0, momentum=0.0, clip_norm=1.0)
    optimizer = create_optimizer(config, lambda _: 1.0)
    grads = jax.tree.map(lambda x: 10 * x, params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    norm = np.sqrt(sum((np.asarray(x) ** 2).sum() for x in jax.tree.leaves(updates)))
    assert norm == pytest.approx(1.0, rel=1e-5)
