"""The state and the compiled program of each phase of a run.

    phase = groups.phase(epoch)
    init, run_steps = make_phase(config, train_data, phase, teacher)
    state, metrics = run_steps(init(), resident, inputs)

A run has one phase, unless `config.optimizer.groups` unfreezes groups of parameters
later; each phase has its own network (whose frozen batch normalisation stays as it is),
its own optimiser (with slots for what is trained) and its own program.
"""

from collections.abc import Callable

import jax
from ml_collections import ConfigDict

from deepfer_jax import parallel
from deepfer_jax.data.pipeline import Resident, TfData
from deepfer_jax.models.preprocess import input_shape
from deepfer_jax.runs.trained import build_model
from deepfer_jax.training import losses, optim
from deepfer_jax.training.distill import Teacher
from deepfer_jax.training.groups import Phase
from deepfer_jax.training.state import TrainState, create_state
from deepfer_jax.training.step import make_run_steps, make_train_step


def make_phase(
    config: ConfigDict,
    data: Resident | TfData,
    phase: Phase,
    teacher: Teacher | None = None,
) -> tuple[Callable[[], TrainState], Callable]:
    """Returns (init, run_steps).

    Args:
      config: of the run.
      data: the pipeline of the training split.
      phase: what is trained.
      teacher: from `distill.load_teacher`.

    `init() -> TrainState`, new, with slots for what this phase trains;
    `run_steps(state, resident, inputs) -> (state, metrics [steps])`, over all devices,
    see `step.make_run_steps`; it is compiled when it is first called.
    """
    num = data.steps_per_epoch
    num_steps = config.train.num_epochs * num
    model = build_model(
        config.model,
        data.classes,
        bn_axis_name=parallel.AXIS,
        frozen=phase.is_frozen_layer,
    )
    schedule = optim.create_schedule(config.optimizer, num, num_steps)
    optimizer = optim.create_optimizer(config.optimizer, schedule, phase, num)

    def init() -> TrainState:
        shape = input_shape(config.model, data.image_shape)
        ema = config.train.ema_decay > 0
        return create_state(model, optimizer, shape, config.seed, ema, phase)

    train_step = make_train_step(
        config,
        model,
        optimizer,
        schedule,
        phase,
        _class_weights(config, data),
        teacher and teacher.predict,
    )
    if teacher is None:
        run_steps = make_run_steps(train_step, data.lookup, num)
        return init, parallel.pmap_train(run_steps)
    return init, _run_with_teacher(train_step, data, teacher)


def _class_weights(config: ConfigDict, data: Resident | TfData) -> jax.Array | None:
    kind = config.loss.class_weights
    if kind == "none":  # counting labels may read the whole split
        return None
    return losses.class_weights_from_counts(data.label_counts, kind)


def _run_with_teacher(
    train_step: Callable, data: Resident | TfData, teacher: Teacher
) -> Callable:
    """The teacher's weights come to the devices once, with the resident data."""
    variables = parallel.replicate(teacher.variables)

    def lookup(resident, inputs):
        batch = data.lookup(resident["data"], inputs)
        return batch | {"teacher": resident["teacher"]}

    run_steps = parallel.pmap_train(
        make_run_steps(train_step, lookup, data.steps_per_epoch)
    )

    def run(state, resident, inputs):
        return run_steps(state, {"data": resident, "teacher": variables}, inputs)

    return run
