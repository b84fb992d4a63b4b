"""One step of training, for one device's share of a batch, and several in one call.

A pure function that speaks to the other devices over `parallel.AXIS`. In order:
augment -> mix -> normalise -> network -> loss -> gradients (summed over devices) ->
optimiser -> moving average -> metrics.

    train_step = make_train_step(config, model, optimizer, schedule, phase)
    run_steps = parallel.pmap_train(make_run_steps(train_step, pipeline.lookup, 448))
    state, metrics = run_steps(state, resident, inputs)
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from deepfer_jax.data import augment
from deepfer_jax.keys import StepKeys, step_keys
from deepfer_jax.models.preprocess import make_preprocess, to_unit
from deepfer_jax.parallel import AXIS
from deepfer_jax.training import losses
from deepfer_jax.training.groups import Phase
from deepfer_jax.training.state import TrainState

Batch = dict[str, jax.Array]


def example_keys(key: jax.Array, batch_size: int) -> jax.Array:
    """One key for each of this device's examples, by its index in the whole batch.

    So an example is augmented alike whatever the number of devices.
    """
    first = jax.lax.axis_index(AXIS) * batch_size
    indices = first + jnp.arange(batch_size)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)


def make_train_step(
    config: ConfigDict,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    phase: Phase,
    class_weights: jax.Array | None = None,
    teach: Callable[[Any, jax.Array], jax.Array] | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns `train_step(state, batch) -> (state, metrics)`.

    Args:
      config: of the run.
      model: the network, with `parallel.AXIS` as its bn_axis_name.
      optimizer: of `phase.split(params)[0]`.
      schedule: the learning rate by step, for the metrics.
      phase: the groups that are trained: no gradient is computed for the others.
      class_weights: float32 [classes], or None.
      teach: `distill.Teacher.predict`; the batch then holds its variables, as teacher.

    batch holds image uint8 [b, H, W, C], label int32 [b] and, where the data set has
    it, target float32 [b, classes] (soft labels); metrics are scalars over the whole
    batch: loss, accuracy (of the dropout network on augmented faces),
    learning_rate, gradient_norm (before clipping) and update_norm.
    """
    to_input = make_preprocess(config.model)

    def prepare(keys: StepKeys, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Returns mixed views in [0, 1], and their targets."""
        images = to_unit(batch["image"])
        each = example_keys(keys.augment, len(batch["label"]))
        images = augment.augment_batch(each, images, config.augment)
        targets = batch.get("target")
        if targets is None:
            targets = jax.nn.one_hot(batch["label"], model.num_classes)
        key = jax.random.fold_in(keys.mix, jax.lax.axis_index(AXIS))
        return augment.mix_batch(key, images, targets, config.augment)

    def example_losses(logits, targets, taught) -> jax.Array:
        smooth = losses.smooth_labels(targets, config.loss.label_smoothing)
        each = losses.cross_entropy(logits, smooth)
        if taught is None:
            return each
        distill = config.distill
        return losses.distill(each, logits, taught, distill.weight, distill.temperature)

    def train_step(state, batch):
        keys = step_keys(config.seed, state.step)
        dropout_key = jax.random.fold_in(keys.dropout, jax.lax.axis_index(AXIS))
        views, targets = prepare(keys, batch)
        images = to_input(views)
        taught = None if teach is None else teach(batch["teacher"], views)
        weights = jnp.ones(len(targets))
        if class_weights is not None:
            weights = targets @ class_weights
        # Constant in the parameters, so no reduction stands inside the gradient.
        total_weight = jax.lax.psum(weights.sum(), AXIS)
        trainable, frozen = phase.split(state.params)

        def loss_fn(trainable):
            logits, updates = model.apply(
                {
                    "params": phase.merge(trainable, frozen),
                    "batch_stats": state.batch_stats,
                },
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key},
            )
            each = example_losses(logits, targets, taught)
            loss = (weights * each).sum() / total_weight
            return loss, (logits, updates.get("batch_stats", {}))

        def grad_fn(trainable, _):  # for sharpness-aware minimisation
            return jax.lax.psum(jax.grad(loss_fn, has_aux=True)(trainable)[0], AXIS)

        (loss, (logits, batch_stats)), grads = jax.value_and_grad(
            loss_fn, has_aux=True
        )(trainable)
        grads = jax.lax.psum(grads, AXIS)
        updates, opt_state = optimizer.update(
            grads, state.opt_state, trainable, grad_fn=grad_fn
        )
        params = phase.merge(optax.apply_updates(trainable, updates), frozen)
        correct = logits.argmax(-1) == targets.argmax(-1)
        metrics = {
            "loss": jax.lax.psum(loss, AXIS),
            "accuracy": jax.lax.pmean(correct.mean(), AXIS),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
            "gradient_norm": optax.tree.norm(grads),
            "update_norm": optax.tree.norm(updates),
        }
        decay = config.train.ema_decay
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            ema=update_ema(state.ema, params, batch_stats, state.step, decay),
            opt_state=opt_state,
        )
        return new_state, metrics

    return train_step


def update_ema(
    ema: Any, params: Any, batch_stats: Any, step: jax.Array, decay: float
) -> Any:
    """Moves the average towards the new values; {} stays {}.

    The decay rises with the step, min(decay, (1 + step) / (10 + step)), so that early
    averages do not remember the initial weights (as TensorFlow's `num_updates` does).
    """
    if not ema:
        return ema
    new = {"params": params, "batch_stats": batch_stats}
    rate = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    # So that what does not change, as what is frozen, stays to the bit.
    return jax.tree.map(lambda old, new: old + rate * (new - old), ema, new)


def steps_per_call(train: ConfigDict, steps_per_epoch: int) -> int:
    """How many steps one call of `run_steps` runs.

    All calls are of one length, so that there is one program to compile, and an epoch's
    last is filled up with steps that count for nothing. Of the lengths between half of
    the most and the most, the one with the fewest of them is taken: 16 for FER2013's
    448 steps (none), 12 for 443 (one).

    Args:
      train: `config.train`, whose steps_per_call is the most that there may be.
      steps_per_epoch: of the training split.
    """
    most = train.steps_per_call or (1 if jax.default_backend() == "cpu" else 20)
    most = min(most, steps_per_epoch)
    lengths = range(most, most // 2, -1)
    return min(lengths, key=lambda length: -steps_per_epoch % length)


def make_run_steps(
    train_step: Callable, lookup: Callable[[Any, Any], Batch], steps_per_epoch: int
) -> Callable[[TrainState, Any, Any], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns `run_steps(state, resident, inputs) -> (state, metrics [steps])`.

    inputs have a leading [steps] axis; `lookup(resident, input)` makes a batch of one
    of them. Steps beyond the end of an epoch leave the state as it is, so that calls of
    one length do for an epoch of any: leave their metrics out. A single step is no
    loop: on a CPU, XLA runs a loop's body about ten times slower.
    """

    def run_steps(state, resident, inputs):
        num_steps = len(jax.tree.leaves(inputs)[0])
        num_left = steps_per_epoch - state.step % steps_per_epoch

        def body(state, number_and_inputs):
            number, step_inputs = number_and_inputs
            new, metrics = train_step(state, lookup(resident, step_inputs))
            keep = functools.partial(jnp.where, number < num_left)
            return jax.tree.map(keep, new, state), metrics

        if num_steps > 1:
            return jax.lax.scan(body, state, (jnp.arange(num_steps), inputs))
        first = jax.tree.map(lambda x: x[0], inputs)
        state, metrics = train_step(state, lookup(resident, first))
        return state, jax.tree.map(lambda x: x[None], metrics)

    return run_steps
