"""Training, from a configuration to a checkpointed network: the whole story.

    result = train_and_evaluate(config, "runs/quickstart")

The order of operations: open the data -> build network, optimiser and state -> restore
the newest whole checkpoint -> for every epoch: train, validate, write numbers, save ->
report the best epoch. A run that is started again goes on where its newest checkpoint
stands, with the same batches and keys, so that it ends with the same bits as one that
was never stopped (same machine and program).
"""

import contextlib
import logging
import math
import os
import pathlib
import signal
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from deepfer_jax import parallel
from deepfer_jax.data import datasets
from deepfer_jax.data.audit import copies_of_other_splits
from deepfer_jax.data.pipeline import Resident, TfData, create_pipeline
from deepfer_jax.errors import UserError
from deepfer_jax.evaluation.evaluate import create_eval_step, evaluate
from deepfer_jax.evaluation.metrics import summarize
from deepfer_jax.models.preprocess import make_preprocess, to_unit
from deepfer_jax.pretrained.port import load_ported
from deepfer_jax.runs.checkpoint import Checkpoints
from deepfer_jax.runs.trained import start_from
from deepfer_jax.runs.workdir import check_config, locked, open_workdir
from deepfer_jax.runs.writers import MetricWriter
from deepfer_jax.training.groups import Groups, Phase
from deepfer_jax.training.programs import Programs, steps_per_call
from deepfer_jax.training.progress import Progress
from deepfer_jax.training.state import TrainState, eval_variables, with_variables

_log = logging.getLogger(__name__)
# Faces on which the statistics of folded batch normalisation are measured again.
_NUM_MEASURED = 256


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
    with locked(workdir):
        return _train(config, open_workdir(workdir, config))


def _train(config: ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
    train_data, validation_data = open_data(config)
    steps_per_epoch = train_data.steps_per_epoch
    num_steps = config.train.num_epochs * steps_per_epoch

    programs = Programs(config, train_data)
    checkpoints = Checkpoints(workdir / "checkpoints", writable=True)
    newest = checkpoints.newest()
    if newest is not None:
        data = {"train": train_data, "validation": validation_data}
        check_same_data(checkpoints.metadata(newest), data, config.dataset)
    phase = programs.groups.phase(max((newest or 0) - 1, 0) // steps_per_epoch)
    state = programs.create_state(phase)
    if newest is None and (config.model.init_from or config.model.pretrained):
        state = with_variables(state, start_weights(config, state, train_data))
    describe_parameters(state, programs.groups, workdir)
    state = parallel.replicate(state)
    if newest is not None:
        state = checkpoints.restore(newest, like=state)
        _log.info("resuming after step %d of %d", newest, num_steps)
    if (newest or 0) < num_steps:
        trainer = Trainer(config, workdir, checkpoints, train_data, validation_data)
        trainer.run(programs, state, phase)
    best = {"step": checkpoints.best()} | checkpoints.metadata(checkpoints.best())
    _log.info(
        "run complete: %d epochs; best is epoch %d with %.2f %% on %s",
        config.train.num_epochs,
        best["epoch"],
        100 * best["accuracy"],
        config.dataset.validation_split,
    )
    return best


def open_data(config: ConfigDict) -> tuple[Resident | TfData, Resident | TfData]:
    """Returns the pipelines of the training and the validation split."""
    dataset = config.dataset
    builder = datasets.load_builder(dataset.name, dataset.data_dir)
    copies = None
    if dataset.exclude_test_copies:
        copies = copies_of_other_splits(builder, dataset.train_split)
        _log.info(
            "%d of %d training faces are also in other splits: left out",
            copies.sum(),
            len(copies),
        )
    return tuple(
        create_pipeline(
            dataset.pipeline,
            builder,
            split,
            config.train.batch_size,
            config.seed,
            dataset.shuffle_buffer,
            leave_out,
        )
        for split, leave_out in (
            (dataset.train_split, copies),
            (dataset.validation_split, None),
        )
    )


def check_same_data(
    metadata: dict[str, Any],
    data: dict[str, Resident | TfData],
    dataset: ConfigDict,
) -> None:
    """Compares the data with what a checkpoint was trained on.

    Raises:
      UserError: the faces or labels of a split have changed since.
    """
    for name, there in metadata.get("data", {}).items():
        now = data[name].fingerprint
        if there != now:
            split = dataset[f"{name}_split"]
            raise UserError(
                f"{dataset.name} in {dataset.data_dir}, split {split}, is not what "
                f"this run was trained on: its fingerprint was {there}, now {now}. "
                "Bring the data back, or name another --workdir"
            )


def start_weights(
    config: ConfigDict, state: TrainState, train_data: Resident | TfData
) -> dict[str, Any]:
    """Returns {params, batch_stats} from `init_from` or `pretrained`, head as it fits.

    Raises:
      UserError: both are given, or the weights do not fit the network.
    """
    model = config.model
    if model.init_from and model.pretrained:
        raise UserError("config.model: give init_from or pretrained, not both")
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    if model.init_from:
        return start_from(model, train_data.classes, variables)
    batch = next(train_data.in_order(_NUM_MEASURED))
    images = make_preprocess(model)(to_unit(batch["image"]))
    return load_ported(model, variables, images)


def describe_parameters(
    state: TrainState, groups: Groups, workdir: pathlib.Path
) -> None:
    """Writes WORKDIR/parameters.txt and logs the total, and the groups if there are."""
    overview = parameter_overview.get_parameter_overview(state.params)
    (workdir / "parameters.txt").write_text(overview + "\n")
    total = parameter_overview.count_parameters(state.params)
    _log.info("%s parameters (%s)", f"{total:,}", workdir / "parameters.txt")
    if len(groups.groups) > 1:
        _log.info("%s", groups.describe(state.params))


class Trainer:
    """The loop over epochs, with what it writes and when it stops.

    Args:
      config: of the run.
      workdir: where metrics and traces go.
      checkpoints: writable.
      train_data: a pipeline of deepfer_jax.data.pipeline.
      validation_data: another.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: pathlib.Path,
        checkpoints: Checkpoints,
        train_data: Resident | TfData,
        validation_data: Resident | TfData,
    ):
        self.config, self.workdir = config, workdir
        self.checkpoints = checkpoints
        self.train_data, self.validation_data = train_data, validation_data
        self.steps_per_epoch = train_data.steps_per_epoch
        self.num_steps = config.train.num_epochs * self.steps_per_epoch
        self.steps_per_call = steps_per_call(config.train, self.steps_per_epoch)
        self.eval_step = create_eval_step(config.model, train_data.classes)
        self.fingerprints = {
            "train": train_data.fingerprint,
            "validation": validation_data.fingerprint,
        }
        self.signum = None

    def run(self, programs: Programs, state: TrainState, phase: Phase) -> None:
        """Trains from the state's step to the end of the last epoch.

        Args:
          programs: of the run.
          state: replicated; it is donated.
          phase: that the state's slots are of.
        """
        step, every = int(state.step), self.config.train.validate_every_epochs
        with (
            MetricWriter(self.workdir, step) as self.writer,
            Progress(self.num_steps, step) as self.progress,
            self._signals(),
            _Trace(self.config.train.profile_steps, self.workdir) as self.trace,
        ):
            while step < self.num_steps:
                new_phase = programs.groups.phase(step // self.steps_per_epoch)
                if new_phase.awake != phase.awake:
                    state, phase = programs.wake(state, new_phase), new_phase
                state = self._epoch(programs.run_steps(phase), state, step)
                step = int(state.step)
                epoch = step // self.steps_per_epoch
                if step == self.num_steps or not epoch % every:
                    self._validate_and_save(state, step)
                elif self.signum is not None:
                    self._save(state, epoch, accuracy=None)
                if self.signum is not None and step < self.num_steps:
                    raise Stopped(self.signum, step)

    def _epoch(self, run_steps: Callable, state: TrainState, step: int) -> TrainState:
        """From `step` to the end of its epoch."""
        train, num = self.config.train, self.steps_per_call
        epoch, first = divmod(step, self.steps_per_epoch)
        end = (epoch + 1) * self.steps_per_epoch
        self.progress.pause()
        self.epoch_losses, self.epoch_accuracies = [], []
        pending, written = [], step
        for resident, inputs in self.train_data.epoch(epoch, first, num):
            self.trace.before(step)
            state, metrics = self._call(run_steps, state, resident, inputs, step)
            pending.append(metrics)
            before, step = step, min(step + num, end)
            ends = step == end
            stops = self.signum is not None
            saves = stops or _crosses(train.checkpoint_every_steps, before, step)
            if ends or saves or _crosses(train.log_every_steps, before, step):
                self._write(pending, written, step, epoch)
                pending, written = [], step
            if saves and not ends:
                self._save(state, epoch, accuracy=None)
            if stops and not ends:
                raise Stopped(self.signum, step)
        return state

    @staticmethod
    def _call(
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

    def _write(
        self, pending: list[dict[str, jax.Array]], first: int, step: int, epoch: int
    ) -> None:
        """Averages the metrics of the steps from `first` to `step`, and shows them."""
        fetched, num = jax.device_get(pending), step - first
        steps = {
            name: np.concatenate([m[name] for m in fetched])[:num]
            for name in fetched[0]
        }
        finite = np.isfinite(steps["loss"]) & np.isfinite(steps["gradient_norm"])
        if not finite.all():
            bad = first + 1 + int(np.argmin(finite))
            raise UserError(
                f"the loss or its gradient is not finite at step {bad} (epoch "
                f"{epoch + 1}): lower config.optimizer.learning_rate, or clip "
                "gradients with config.optimizer.clip_norm; the newest checkpoint is "
                "of step "
                f"{self.checkpoints.newest() or 0}"
            )
        means = {name: float(x.mean(dtype=np.float64)) for name, x in steps.items()}
        self.progress.update(
            step,
            num * self.config.train.batch_size,
            means,
            f"{epoch + 1}/{self.config.train.num_epochs}",
        )
        self.epoch_losses.append(steps["loss"])
        self.epoch_accuracies.append(steps["accuracy"])
        speed = {"faces_per_second": self.progress.faces_per_second}
        self.writer.write(step, "train", means | speed)

    def _save(self, state: TrainState, epoch: int, accuracy: float | None) -> None:
        """epoch counts finished ones; accuracy is the validation split's, or None."""
        metadata = {
            "epoch": epoch,
            "accuracy": accuracy,
            "image_shape": list(self.train_data.image_shape),
            "classes": list(self.train_data.classes),
            "data": self.fingerprints,
        }
        self.checkpoints.save(state, metadata)

    def _validate_and_save(self, state: TrainState, step: int) -> None:
        metrics, _ = evaluate(
            self.eval_step,
            eval_variables(state),
            self.validation_data,
            self.config.evaluation.batch_size,
        )
        result = summarize(metrics, self.train_data.classes)
        scalars = ("accuracy", "macro_f1", "nll", "ece")
        self.writer.write(step, "validation", {k: result[k] for k in scalars})
        epoch = step // self.steps_per_epoch
        if not math.isfinite(result["nll"]):
            raise UserError(f"the validation loss is not finite after step {step}")
        self._save(state, epoch, result["accuracy"])
        self.progress.line(
            f"epoch {epoch}/{self.config.train.num_epochs}  "
            f"loss {np.concatenate(self.epoch_losses).mean():.3f}  "
            f"accuracy {np.concatenate(self.epoch_accuracies).mean():.1%}  "
            f"validation {result['accuracy']:.2%}  "
            f"{self.progress.faces_per_second:,.0f} faces/s  "
            f"{self.progress.time_left()} left"
        )

    @contextlib.contextmanager
    def _signals(self):
        """SIGTERM and SIGINT are noted, and obeyed after the running steps."""

        def note(signum, _):
            self.signum = signum

        if threading.current_thread() is not threading.main_thread():
            yield  # only there can signals be noted
            return
        old = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for signum, handler in old.items():
                signal.signal(signum, handler)


def _crosses(every: int, before: int, after: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]; 0 has none."""
    return every > 0 and before // every != after // every


class _Trace:
    """A jax.profiler trace of the chosen steps, in WORKDIR/profile."""

    def __init__(self, steps: tuple[int, ...], workdir: pathlib.Path):
        self._steps, self._folder = steps, str(workdir / "profile")
        self._running = False

    def before(self, step: int) -> None:
        if not self._steps:
            return
        if self._running and step >= self._steps[1]:
            self._stop()
        elif not self._running and self._steps[0] <= step + 1 <= self._steps[1]:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._running = False
        _log.info("profiler trace of steps %s to %s: %s", *self._steps, self._folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._running:
            self._stop()
