"""Optimisers and learning-rate schedules, from a configuration.

    schedule = create_schedule(config.optimizer, steps_per_epoch, num_steps)
    optimizer = create_optimizer(config.optimizer, schedule, phase, steps_per_epoch)
    opt_state = optimizer.init(phase.split(params)[0])

Weight decay acts on kernels only: on leaves named `kernel`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from ml_collections import ConfigDict

from deepfer_jax.errors import UserError
from deepfer_jax.training.groups import Group, Phase


def create_schedule(
    config: ConfigDict, steps_per_epoch: int, num_steps: int
) -> optax.Schedule:
    """Returns the learning rate as a function of the step.

    Args:
      config: `config.optimizer`.
      steps_per_epoch: steps of one epoch.
      num_steps: steps of the whole run; the schedule ends there.

    Raises:
      UserError: the schedule's name is unknown, or the warm-up is longer than the run.
    """
    peak = config.learning_rate
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if warmup >= num_steps and config.schedule != "constant":
        raise UserError(
            f"config.optimizer.warmup_epochs={config.warmup_epochs} is {warmup} steps, "
            f"but the whole run has {num_steps}: shorten it or train longer"
        )
    rest = num_steps - warmup
    if config.schedule == "one_cycle":
        # Smith & Topin 2019 (arXiv:1708.07120).
        return optax.cosine_onecycle_schedule(
            num_steps, peak, pct_start=max(warmup, 1) / num_steps
        )
    if config.schedule == "cosine":
        # Loshchilov & Hutter 2017 (arXiv:1608.03983), without restarts.
        body = optax.cosine_decay_schedule(peak, rest)
    elif config.schedule == "linear":
        body = optax.linear_schedule(peak, 0.0, rest)
    elif config.schedule == "step":
        boundaries = [round(f * num_steps) - warmup for f in config.step_fractions]
        body = optax.piecewise_constant_schedule(
            peak, dict.fromkeys(boundaries, config.step_factor)
        )
    elif config.schedule == "constant":
        body = optax.constant_schedule(peak)
    else:
        raise UserError(
            "config.optimizer.schedule: expected 'cosine', 'linear', 'one_cycle', "
            f"'step' or 'constant', found {config.schedule!r}"
        )
    if not warmup:
        return body
    rise = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([rise, body], [warmup])


def is_kernel(params: Any) -> Any:
    """Tree of bools: true where the leaf's own name is `kernel`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key == "kernel", params
    )


def create_optimizer(
    config: ConfigDict,
    schedule: optax.Schedule,
    phase: Phase,
    steps_per_epoch: int,
) -> optax.GradientTransformationExtraArgs:
    """Returns clipping by the global norm, then each group's optimiser.

    Weight decay acts on kernels alone. `update` takes `grad_fn(params, _)`, for
    sharpness-aware minimisation: where `sam_rho` is not 0, the gradient that counts is
    the one at `sam_rho` up the slope (Foret et al. 2021, arXiv:2010.01412).

    Args:
      config: `config.optimizer`.
      schedule: of the whole run.
      phase: the groups that are active: it is an optimiser of `phase.split(params)[0]`,
        with slots for these alone.
      steps_per_epoch: to know at which step a group was unfrozen.

    Raises:
      UserError: the optimiser's name is unknown.
    """
    optimizers = {
        str(i): _create_group_optimizer(
            config,
            _group_schedule(config, schedule, phase.groups[i], steps_per_epoch),
        )
        for i in phase.active
    }
    optimizer = optax.partition(optimizers, phase.label_tree)
    if config.clip_norm > 0:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    if config.sam_rho > 0:
        climb = optax.chain(optax.contrib.normalize(), optax.sgd(config.sam_rho))
        optimizer = optax.contrib.sam(optimizer, climb, opaque_mode=True)
    return optax.with_extra_args_support(optimizer)


def _group_schedule(
    config: ConfigDict, schedule: optax.Schedule, group: Group, steps_per_epoch: int
) -> optax.Schedule:
    """The run's schedule as a group sees it, which counts from when it was unfrozen."""
    first = group.epoch * steps_per_epoch
    warmup = round(config.group_warmup_epochs * steps_per_epoch) if first else 0

    def group_schedule(count):
        rise = jnp.minimum(1.0, (count + 1) / warmup) if warmup else 1.0
        return group.multiplier * rise * schedule(count + first)

    return group_schedule


def _create_group_optimizer(
    config: ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
    if config.name == "sgd":
        return optax.chain(
            optax.add_decayed_weights(config.weight_decay, mask=is_kernel),
            optax.sgd(schedule, momentum=config.momentum, nesterov=True),
        )
    if config.name == "adamw":
        # Loshchilov & Hutter 2019 (arXiv:1711.05101).
        return optax.adamw(
            schedule,
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=is_kernel,
        )
    raise UserError(
        f"config.optimizer.name: expected 'sgd' or 'adamw', found {config.name!r}"
    )


def carry_over(new: optax.OptState, old: optax.OptState) -> optax.OptState:
    """Takes the slots that both states have from the old one; the others stay new.

    For the moment in which a group is unfrozen: its slots begin, the others go on.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(old)
    old_leaves = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: old_leaves.get(jax.tree_util.keystr(path), leaf), new
    )
