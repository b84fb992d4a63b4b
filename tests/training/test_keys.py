"""keys: whatever a run draws, it draws from a key of its own."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax import keys
from deepfer_jax.data import datasets
from deepfer_jax.data.pipeline import create_pipeline
from tests.training.test_step import as_inputs, make_batch, make_config, make_run

NUM_STEPS, NUM_EPOCHS, BATCH = 4, 4, 6
# Functions of jax.random that the package, dm-pix and Flax draw with.
DRAWING = ("uniform", "bernoulli", "beta", "permutation", "bits", "randint")
DERIVING = ("split", "fold_in")


@pytest.fixture
def used(monkeypatch):
    """Counts each key's uses, {"drawn" or "derived": Counter}, while a test runs."""
    counts = {"drawn": collections.Counter(), "derived": collections.Counter()}

    def note(kind, data):
        counts[kind][data.tobytes()] += 1

    def watch(function, kind):
        @functools.wraps(function)
        def watched(key, *args, **kwargs):
            # Ordinary functions: a batch of keys comes one by one.
            jax.debug.callback(functools.partial(note, kind), jax.random.key_data(key))
            return function(key, *args, **kwargs)

        return watched

    for kind, names in (("drawn", DRAWING), ("derived", DERIVING)):
        for name in names:
            function = watch(getattr(jax.random, name), kind)
            monkeypatch.setattr(jax.random, name, function)
    return counts


def test_no_key_is_used_twice(used, small_data_dir):
    """Neither drawn from twice, nor drawn from and also split or folded."""
    config = make_config()
    config.model.dropout_rate = 0.5
    config.augment.update({"shift": 0.1, "crop": 2, "blur": 0.5, "brightness": 0.1})
    config.augment.update({"contrast": 0.1, "gamma": 0.1})
    config.augment.update({"mixup_alpha": 0.2, "cutmix_alpha": 1.0})
    run, state = make_run(config)
    for seed in range(NUM_STEPS):
        state, _ = run(state, {}, as_inputs(make_batch(BATCH, seed)))
    builder = datasets.load_builder("synthetic_faces/small", small_data_dir)
    pipeline = create_pipeline("resident", builder, "train", 28, config.seed, 0)
    for epoch in range(NUM_EPOCHS):
        next(pipeline.epoch(epoch, 0, 1))
    jax.effects_barrier()
    drawn, derived = used["drawn"], used["derived"]
    # Eight operations for each example; mixing, dropout and the order besides.
    assert len(drawn) > NUM_STEPS * (8 * BATCH + 2) + NUM_EPOCHS
    assert set(drawn.values()) == {1}
    assert not drawn.keys() & derived.keys()


def test_each_purpose_has_its_own_keys():
    found = [keys.init_key(3)]
    for i in range(20):
        found += [keys.order_key(3, i), *keys.step_keys(3, i), keys.init_key(4 + i)]
    data = np.stack([jax.random.key_data(key) for key in found])
    assert len(np.unique(data, axis=0)) == len(found)


def test_the_keys_of_a_step_do_not_depend_on_how_it_is_reached():
    traced = jax.jit(lambda step: keys.step_keys(7, step))(jnp.int32(1000))
    for one, other in zip(keys.step_keys(7, 1000), traced, strict=True):
        assert (jax.random.key_data(one) == jax.random.key_data(other)).all()
    assert traced._fields == ("augment", "mix", "dropout")
