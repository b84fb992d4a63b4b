"""What watches a run from outside its arithmetic: metrics, signals, the profiler.

metrics = StepMetrics(config.train, steps_per_epoch, first_step, writer, progress)
with Signals() as signals, Trace(config.train.profile_steps, workdir) as trace:
    metrics.add(step, device_metrics)
    if signals.came(): ...
"""

import logging
import pathlib
import signal
import threading

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from deepfer_jax import hosts
from deepfer_jax.errors import UserError
from deepfer_jax.runs.writers import MetricWriter
from deepfer_jax.training.progress import Progress

_log = logging.getLogger(__name__)
Metrics = dict[str, jax.Array]


def crosses(every: int, before: int, after: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]; 0 has none."""
    return every > 0 and before // every != after // every


class StepMetrics:
    """Writes the mean metrics of every `log_every_steps` steps, and of each epoch.

    Metrics are fetched from the device only after the next steps have been dispatched:
    so it has work while the host waits for numbers, averages and writes them.

    Args:
      train: `config.train`.
      steps_per_epoch: of the training split.
      first_step: steps that earlier processes finished.
      writer: of the run.
      progress: what a person sees.
    """

    def __init__(
        self,
        train: ConfigDict,
        steps_per_epoch: int,
        first_step: int,
        writer: MetricWriter,
        progress: Progress,
    ):
        self._train, self._steps_per_epoch = train, steps_per_epoch
        self._writer, self._progress = writer, progress
        self._step = self._first = first_step
        self._open: list[Metrics] = []
        self._due: tuple[int, int, list[Metrics]] | None = None
        self._epoch: list[dict[str, np.ndarray]] = []

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics of the steps up to `step`, just dispatched.

        Raises:
          UserError: the loss or gradient of earlier steps is not finite.
        """
        self._write_due()
        before, self._step = self._step, step
        self._open.append(metrics)
        if crosses(self._train.log_every_steps, before, step):
            self._close()

    def flush(self) -> None:
        """Waits for all steps and writes what is not yet written.

        Raises:
          UserError: the loss or gradient of a step is not finite.
        """
        self._write_due()
        self._close()
        self._write_due()

    def epoch_means(self) -> dict[str, float]:
        """Loss and accuracy over the steps of the epoch that is over."""
        steps, self._epoch = self._epoch, []
        return {
            name: float(np.concatenate([x[name] for x in steps]).mean())
            for name in ("loss", "accuracy")
        }

    def _close(self) -> None:
        if self._open:
            self._due = (self._first, self._step, self._open)
            self._first, self._open = self._step, []

    def _write_due(self) -> None:
        if self._due is None:
            return
        (first, step, pending), self._due = self._due, None
        fetched, num = jax.device_get(pending), step - first
        # The last call of an epoch may have run steps that count for nothing.
        steps = {
            name: np.concatenate([m[name] for m in fetched])[:num]
            for name in fetched[0]
        }
        epoch = first // self._steps_per_epoch + 1
        _check_finite(steps, first, epoch)
        means = {name: float(x.mean(dtype=np.float64)) for name, x in steps.items()}
        self._progress.update(step, num * self._train.batch_size, means)
        self._epoch.append(steps)
        speed = {"faces_per_second": self._progress.faces_per_second}
        self._writer.write(step, "train", means | speed)


def _check_finite(steps: dict[str, np.ndarray], first: int, epoch: int) -> None:
    finite = np.isfinite(steps["loss"]) & np.isfinite(steps["gradient_norm"])
    if not finite.all():
        bad = first + 1 + int(np.argmin(finite))
        raise UserError(
            f"the loss or its gradient is not finite at step {bad} (epoch {epoch}): "
            "lower config.optimizer.learning_rate, or clip gradients with "
            "config.optimizer.clip_norm"
        )


class Signals:
    """Notes SIGTERM and SIGINT while it is entered; number is the last, or None.

    `came` says, to be asked after every call of steps, whether the run shall stop. One
    process of several that is told to stop tells the others, through jax's own service
    for this, which has noted SIGTERM since the processes met; it says so in all of them
    after the same call.
    """

    def __init__(self):
        self.number, self._old = None, {}
        self._asked = 0

    def _note(self, number, _) -> None:
        self.number = number

    def _tell(self, *_) -> None:
        signal.raise_signal(signal.SIGTERM)

    def came(self) -> bool:
        if hosts.num_processes() > 1 and self.number is None:
            self._asked += 1
            if multihost_utils.reached_preemption_sync_point(self._asked):
                self.number = signal.SIGTERM
        return self.number is not None

    def __enter__(self):
        if threading.current_thread() is not threading.main_thread():  # nowhere else
            return self
        handlers = {signal.SIGTERM: self._note, signal.SIGINT: self._note}
        if hosts.num_processes() > 1:
            handlers = {signal.SIGINT: self._tell}
        for number, handler in handlers.items():
            self._old[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_):
        for number, handler in self._old.items():
            signal.signal(number, handler)


class Trace:
    """A jax.profiler trace of the chosen steps, of process 0, in WORKDIR/profile.

    Args:
      steps: `config.train.profile_steps`, (first, last), or () for none.
      workdir: of the run.
    """

    def __init__(self, steps: tuple[int, ...], workdir: pathlib.Path):
        self._steps = steps if hosts.is_first() else ()
        self._folder = str(workdir / "profile")
        self._running = False

    def before(self, step: int) -> None:
        """Starts or stops it, as the steps after `step` are dispatched."""
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
