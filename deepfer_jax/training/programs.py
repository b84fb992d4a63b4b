"""The compiled training program of each phase of a run.

    programs = Programs(config, train_data)
    phase = programs.groups.phase(epoch)
    state = programs.create_state(phase)
    state, metrics = programs.run_steps(phase)(state, resident, inputs)

A run has one phase, unless `config.optimizer.groups` lets groups of parameters wake
later; each phase has its own network (whose frozen batch normalisation stands still),
its own optimiser (with slots for what is trained) and its own program.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from deepfer_jax import parallel
from deepfer_jax.data.pipeline import Resident, TfData
from deepfer_jax.models.preprocess import input_shape
from deepfer_jax.runs.trained import create_network
from deepfer_jax.training import losses, optim
from deepfer_jax.training.distill import load_teacher
from deepfer_jax.training.groups import Groups, Phase, parse_groups
from deepfer_jax.training.state import TrainState, create_state
from deepfer_jax.training.step import make_run_steps, make_train_step


def steps_per_call(train: ConfigDict, steps_per_epoch: int) -> int:
    """How many steps one call of the program runs.

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


class Programs:
    """The compiled training program of each phase of a run.

    Args:
      config: of the run.
      train_data: a pipeline of deepfer_jax.data.pipeline.
    """

    def __init__(self, config: ConfigDict, train_data: Resident | TfData):
        self._config, self._data = config, train_data
        self._steps_per_epoch = train_data.steps_per_epoch
        num_steps = config.train.num_epochs * self._steps_per_epoch
        self._schedule = optim.create_schedule(
            config.optimizer, self._steps_per_epoch, num_steps
        )
        self._shape = input_shape(config.model, train_data.image_shape)
        variables = jax.eval_shape(
            self._model(None).init,
            jax.random.key(0),
            jnp.zeros((1, *self._shape), jnp.float32),
        )
        self.groups = Groups(parse_groups(config.optimizer.groups), variables["params"])
        self._run_steps = {}
        self._teacher = load_teacher(config.distill, train_data.classes)

    def _model(self, phase: Phase | None) -> nn.Module:
        frozen = phase.is_frozen_layer if phase else None
        return create_network(
            self._config.model,
            self._data.classes,
            bn_axis_name=parallel.AXIS,
            frozen=frozen,
        )

    def _optimizer(self, phase: Phase) -> optax.GradientTransformation:
        return optim.create_optimizer(
            self._config.optimizer, self._schedule, phase, self._steps_per_epoch
        )

    def create_state(self, phase: Phase) -> TrainState:
        """A new state, with slots for what this phase trains."""
        return create_state(
            self._model(phase),
            self._optimizer(phase),
            self._shape,
            self._config.seed,
            ema=self._config.train.ema_decay > 0,
            phase=phase,
        )

    def wake(self, state: TrainState, phase: Phase) -> TrainState:
        """The state for a phase that trains more: new slots, the live ones go on."""
        trainable, _ = phase.split(state.params)
        new = self._optimizer(phase).init(trainable)
        opt_state = optim.carry_over(new, jax.device_get(state.opt_state))
        return state.replace(opt_state=parallel.replicate(opt_state))

    def _class_weights(self) -> jax.Array | None:
        kind = self._config.loss.class_weights
        if kind == "none":  # counting labels may read the whole split
            return None
        return losses.class_weights_from_counts(self._data.label_counts, kind)

    def run_steps(self, phase: Phase) -> Callable:
        """Returns `run_steps(state, resident, inputs)`, compiled once a phase."""
        if phase.awake not in self._run_steps:
            train_step = make_train_step(
                self._config,
                self._model(phase),
                self._optimizer(phase),
                self._schedule,
                self._class_weights(),
                phase,
                self._teacher and self._teacher.predict,
            )
            self._run_steps[phase.awake] = self._compile(train_step)
        return self._run_steps[phase.awake]

    def _compile(self, train_step: Callable) -> Callable:
        """Several steps a call; a teacher's weights come with the resident data."""
        lookup, num = self._data.lookup, self._steps_per_epoch
        if self._teacher is None:
            return parallel.pmap_train(make_run_steps(train_step, lookup, num))
        teacher = parallel.replicate(self._teacher.variables)

        def lookup_with_teacher(resident, inputs):
            return lookup(resident["data"], inputs) | {"teacher": resident["teacher"]}

        run_steps = parallel.pmap_train(
            make_run_steps(train_step, lookup_with_teacher, num)
        )

        def run(state, resident, inputs):
            return run_steps(state, {"data": resident, "teacher": teacher}, inputs)

        return run
