"""Where the random keys of a run come from: one purpose, one key.

    variables = model.init(init_key(config.seed), images)
    order = jax.random.permutation(order_key(config.seed, epoch), num_examples)
    keys = step_keys(config.seed, state.step)

The seed is split once, into initial weights, order and steps, and a step's key once
more, into augmentation, mixing and dropout. This matters because the i-th part of a
split key is the same as that key with i folded in: keys that are derived beside each
other, one by splitting and one by folding, meet.

>>> import jax
>>> parts = jax.random.split(jax.random.key(0), 3)
>>> bool((parts[1] == jax.random.fold_in(jax.random.key(0), 1)).all())
True
"""

from typing import NamedTuple

import jax


class StepKeys(NamedTuple):
    """Keys of one step: each has examples or devices folded in before it is used."""

    augment: jax.Array
    mix: jax.Array
    dropout: jax.Array


def init_key(seed: int) -> jax.Array:
    """Of the initial weights."""
    return _split(seed)[0]


def order_key(seed: int, epoch: int) -> jax.Array:
    """Of an epoch's order."""
    return jax.random.fold_in(_split(seed)[1], epoch)


def step_keys(seed: int, step: int | jax.Array) -> StepKeys:
    """Of a step, counted from the start of the run; it may be traced."""
    key = jax.random.fold_in(_split(seed)[2], step)
    return StepKeys(*jax.random.split(key, 3))


def _split(seed: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), 3)
