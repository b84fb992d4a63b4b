"""Training, from a configuration to a checkpointed network: the whole story.

    result = train_and_evaluate(config, "runs/quickstart")

`train_and_evaluate` is to be read from top to bottom: data -> network and optimiser of
the phase that the run stands in -> weights, from the newest whole checkpoint or from
another network -> for every epoch: its steps, validation, a checkpoint -> the best
epoch. A run that is started again goes on where its newest checkpoint stands, with the
same batches and random keys, so that it ends with the same bits as one that was never
stopped (same machine and program).

Several processes (see `hosts`) each read this story, in step: whatever decides where it
goes is the same in all, or comes from process 0.
"""

import json
import logging
import math
import os
import pathlib
import signal
from collections.abc import Callable
from typing import Any

import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from deepfer_jax import hosts, parallel
from deepfer_jax.data import datasets
from deepfer_jax.data.audit import copies_of_other_splits
from deepfer_jax.data.pipeline import Resident, TfData, create_pipeline
from deepfer_jax.errors import UserError
from deepfer_jax.evaluation.evaluate import evaluate
from deepfer_jax.evaluation.metrics import summarize
from deepfer_jax.evaluation.predict import create_eval_step
from deepfer_jax.runs.checkpoint import SharedCheckpoints
from deepfer_jax.runs.workdir import flatten, locked, open_workdir
from deepfer_jax.runs.writers import MetricWriter
from deepfer_jax.training.config import check_config
from deepfer_jax.training.distill import ask_once, load_teacher
from deepfer_jax.training.groups import Groups
from deepfer_jax.training.optim import carry_over
from deepfer_jax.training.phases import make_phase
from deepfer_jax.training.progress import Progress
from deepfer_jax.training.start import check_same_data, start_weights
from deepfer_jax.training.state import TrainState, eval_variables, with_variables
from deepfer_jax.training.step import steps_per_call
from deepfer_jax.training.watch import Signals, StepMetrics, Trace, crosses

_log = logging.getLogger(__name__)


class Stopped(Exception):  # noqa: N818 (not an error)
    """A signal asked the run to stop; its state is saved."""

    def __init__(self, signum: int, step: int):
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}")
        self.signum = signum


def train_and_evaluate(
    config: ConfigDict, workdir: str | os.PathLike
) -> dict[str, Any]:
    """Trains until `config.train.num_epochs`, from wherever the workdir stands.

    Args:
      config: as configs/default.py describes it.
      workdir: of this run alone; made if it is not there.

    Returns:
      {step, epoch, accuracy, ...}: the metadata of the best checkpoint.

    Raises:
      UserError: a field, the data or the workdir does not fit.
      Stopped: SIGTERM or SIGINT came; everything is saved.
    """
    check_config(config)
    agree_on(config)
    with locked(workdir):
        return _train(config, open_workdir(workdir, config))


def _train(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    # Data.
    train_data, validation_data = open_data(config)
    both = {"train": train_data, "validation": validation_data}
    steps_per_epoch = train_data.steps_per_epoch
    num_steps = config.train.num_epochs * steps_per_epoch
    hosts.agree("data", {x: data.fingerprint for x, data in both.items()})
    checkpoints = SharedCheckpoints(workdir / "checkpoints")
    newest = checkpoints.newest()
    if newest is not None:
        check_same_data(checkpoints.metadata(newest), both, config.dataset)

    # Network and optimiser, of the phase in which the newest checkpoint was saved.
    step = newest or 0
    groups = Groups(config.optimizer.groups)
    teacher = load_teacher(config.distill, train_data.classes)
    if teacher and config.distill.fixed:
        assert isinstance(train_data, Resident)  # see check_config
        train_data.replace_targets(ask_once(teacher, train_data, config.distill.weight))
        teacher = None
    phase = groups.phase(max(step - 1, 0) // steps_per_epoch)
    init, run_steps = make_phase(config, train_data, phase, teacher)

    # State: new ones, those of another network, or what the checkpoint holds.
    state = init()
    groups.check(state.params)
    describe_parameters(state, groups, workdir)
    if newest is None:
        state = with_variables(state, start_weights(config, state, train_data))
    state = parallel.replicate(hosts.broadcast(state))
    if newest is not None:
        state = parallel.replicate(checkpoints.restore(newest, like=state))
        _log.info("resuming after step %d of %d", newest, num_steps)

    # The loop over epochs, and over the steps of each.
    validate = make_validate(config, validation_data, train_data.classes)
    save = make_save(checkpoints, train_data, validation_data)
    train, num = config.train, steps_per_call(config.train, steps_per_epoch)
    with (
        MetricWriter(workdir, step) as writer,
        Progress(num_steps, train.num_epochs, step) as progress,
        Signals() as signals,
        Trace(train.profile_steps, workdir) as trace,
    ):
        metrics = StepMetrics(train, steps_per_epoch, step, writer, progress)
        while step < num_steps:
            epoch = step // steps_per_epoch
            if groups.phase(epoch) != phase:  # a group of parameters is unfrozen
                phase = groups.phase(epoch)
                init, run_steps = make_phase(config, train_data, phase, teacher)
                slots = carry_over(init().opt_state, jax.device_get(state.opt_state))
                state = state.replace(opt_state=parallel.replicate(slots))

            progress.pause()
            end = (epoch + 1) * steps_per_epoch
            first = step - epoch * steps_per_epoch
            for resident, inputs in train_data.epoch(epoch, first, num):
                trace.before(step)
                state, step_metrics = call(run_steps, state, resident, inputs, step)
                before, step = step, min(step + num, end)
                metrics.add(step, step_metrics)
                stops = signals.came()
                if step < end and (
                    stops or crosses(train.checkpoint_every_steps, before, step)
                ):
                    metrics.flush()
                    save(state, epoch)
                    if stops:
                        raise Stopped(signals.number, step)
            metrics.flush()

            finished = epoch + 1
            if step == num_steps or not finished % train.validate_every_epochs:
                result = validate(state, step, writer)
                save(state, finished, result["accuracy"])
                progress.epoch(finished, metrics.epoch_means(), result["accuracy"])
            elif signals.came():
                save(state, finished)
            if signals.came() and step < num_steps:
                raise Stopped(signals.number, step)

    # The end: the best epoch.
    best = {"step": checkpoints.best()} | checkpoints.metadata(checkpoints.best())
    _log.info(
        "run complete: %d epochs; best is epoch %d with %.2f %% on %s",
        train.num_epochs,
        best["epoch"],
        100 * best["accuracy"],
        config.dataset.validation_split,
    )
    return best


def agree_on(config: ConfigDict) -> None:
    """Refuses a process of another configuration; its data may lie elsewhere."""
    fields = flatten(json.loads(json.dumps(config.to_dict())))
    hosts.agree("configuration", fields | {"dataset.data_dir": None})


def call(
    run_steps: Callable, state: TrainState, resident: Any, inputs: Any, step: int
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Runs the steps of one call, marked for the profiler.

    Its batches may come from the host; whatever else did would be copied anew in
    every call, so it raises.
    """
    inputs = parallel.shard(inputs)
    with (
        jax.profiler.StepTraceAnnotation("train", step_num=step),
        jax.transfer_guard("disallow"),
    ):
        return run_steps(state, resident, inputs)


def open_data(config: ConfigDict) -> tuple[Resident | TfData, Resident | TfData]:
    """Returns the pipelines of the training and the validation split."""
    dataset = config.dataset
    with hosts.first_alone_first():  # it may be that drawn faces are made
        builder = datasets.load_builder(dataset.name, dataset.data_dir)
    copies = None
    if dataset.exclude_test_copies:
        copies = copies_of_other_splits(builder, dataset.train_split)
        _log.info(
            "%d of %d training faces are also in other splits: left out",
            copies.sum(),
            len(copies),
        )

    def create(split, leave_out):
        return create_pipeline(
            dataset.pipeline,
            builder,
            split,
            config.train.batch_size,
            config.seed,
            dataset.shuffle_buffer,
            leave_out,
        )

    return create(dataset.train_split, copies), create(dataset.validation_split, None)


def describe_parameters(
    state: TrainState, groups: Groups, workdir: pathlib.Path
) -> None:
    """Logs the total, and the groups if there are; writes WORKDIR/parameters.txt."""
    overview = parameter_overview.get_parameter_overview(state.params)
    if hosts.is_first():
        (workdir / "parameters.txt").write_text(overview + "\n")
    total = parameter_overview.count_parameters(state.params)
    _log.info("%s parameters (%s)", f"{total:,}", workdir / "parameters.txt")
    if len(groups.groups) > 1:
        _log.info("%s", groups.describe(state.params))


def make_validate(
    config: ConfigDict, data: Resident | TfData, classes: tuple[str, ...]
) -> Callable[[TrainState, int, MetricWriter], dict[str, Any]]:
    """Returns `validate(state, step, writer) -> result`, which writes the metrics."""
    eval_step = create_eval_step(config.model, classes)
    batch_size = config.evaluation.batch_size

    def validate(state, step, writer):
        sums, _ = evaluate(eval_step, eval_variables(state), data, batch_size)
        result = summarize(sums, classes)
        if not math.isfinite(result["nll"]):
            raise UserError(f"the validation loss is not finite after step {step}")
        names = ("accuracy", "macro_f1", "nll", "ece")
        writer.write(step, "validation", {name: result[name] for name in names})
        return result

    return validate


def make_save(
    checkpoints: SharedCheckpoints,
    train_data: Resident | TfData,
    validation_data: Resident | TfData,
) -> Callable[..., None]:
    """Returns `save(state, epoch, accuracy=None)`.

    epoch counts finished ones; accuracy is the validation split's, where it is known.
    """
    about = {
        "image_shape": list(train_data.image_shape),
        "classes": list(train_data.classes),
        "data": {
            "train": train_data.fingerprint,
            "validation": validation_data.fingerprint,
        },
    }

    def save(state, epoch, accuracy=None):
        checkpoints.save(state, {"epoch": epoch, "accuracy": accuracy} | about)

    return save
