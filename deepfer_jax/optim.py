"""Optimisers and learning-rate schedules, from a configuration.

    schedule = create_schedule(config.optimizer, steps_per_epoch, num_steps)
    optimizer = create_optimizer(config.optimizer, schedule)

Weight decay acts on kernels only: on leaves named `kernel`.
"""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from deepfer_jax.errors import UserError


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
    elif config.schedule == "step":
        boundaries = [round(f * num_steps) - warmup for f in config.step_fractions]
        body = optax.piecewise_constant_schedule(
            peak, dict.fromkeys(boundaries, config.step_factor)
        )
    elif config.schedule == "constant":
        body = optax.constant_schedule(peak)
    else:
        raise UserError(
            "config.optimizer.schedule: expected 'cosine', 'one_cycle', 'step' or "
            f"'constant', found {config.schedule!r}"
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
    config: ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Returns clipping, then the optimiser with weight decay on kernels.

    Raises:
      UserError: the optimiser's name is unknown.
    """
    if config.name == "sgd":
        optimizer = optax.chain(
            optax.add_decayed_weights(config.weight_decay, mask=is_kernel),
            optax.sgd(schedule, momentum=config.momentum, nesterov=True),
        )
    elif config.name == "adamw":
        # Loshchilov & Hutter 2019 (arXiv:1711.05101).
        optimizer = optax.adamw(
            schedule,
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=is_kernel,
        )
    else:
        raise UserError(
            f"config.optimizer.name: expected 'sgd' or 'adamw', found {config.name!r}"
        )
    if config.clip_norm > 0:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    return optimizer
