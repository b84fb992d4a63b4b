"""What a person sees while a network trains: a bar on a terminal, else a line an epoch.

with Progress(num_steps, num_epochs, first_step) as progress:
    progress.update(step, faces, {"loss": 0.7, "accuracy": 0.7})
    progress.epoch(3, {"loss": 0.6, "accuracy": 0.75}, accuracy=0.65)
"""

import math
import sys
import time

from tqdm import tqdm

from deepfer_jax import hosts


class Progress:
    """Shows finished steps, loss, accuracy, faces/s and the time left, in process 0.

    Args:
      num_steps: steps of the whole run.
      num_epochs: epochs of the whole run.
      first_step: steps finished before this process started.
    """

    def __init__(self, num_steps: int, num_epochs: int, first_step: int):
        self._bar = tqdm(
            total=num_steps,
            initial=first_step,
            disable=not (hosts.is_first() and sys.stderr.isatty()),
            unit="step",
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix} {remaining} left",
        )
        self._num_steps, self._num_epochs = num_steps, num_epochs
        self._step, self._first_step = first_step, first_step
        self._started = self._last = time.perf_counter()
        self.faces_per_second = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def update(self, step: int, num_faces: int, metrics: dict[str, float]) -> None:
        """Moves to `step`; num_faces were trained on since the last update."""
        now = time.perf_counter()
        self.faces_per_second = num_faces / (now - self._last)
        self._last = now
        epoch = math.ceil(step * self._num_epochs / self._num_steps)
        self._bar.set_description_str(
            f"epoch {epoch}/{self._num_epochs}", refresh=False
        )
        self._bar.set_postfix_str(
            f"loss {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.1%}, "
            f"{self.faces_per_second:,.0f} faces/s,",
            refresh=False,
        )
        self._bar.update(step - self._step)
        self._step = step

    def pause(self) -> None:
        """Leaves the time until now (validation, saving) out of faces/s."""
        self._last = time.perf_counter()

    def time_left(self) -> str:
        """Estimate for the rest of the run, such as 3:05 (minutes) or 1:02:11."""
        done = self._step - self._first_step
        spent = time.perf_counter() - self._started
        left = (self._num_steps - self._step) * spent / max(done, 1)
        return tqdm.format_interval(left)

    def epoch(self, finished: int, means: dict[str, float], accuracy: float) -> None:
        """Prints a line of an epoch that stays, above the bar where there is one.

        Args:
          finished: epochs.
          means: loss and accuracy of its steps.
          accuracy: on the validation split.
        """
        text = (
            f"epoch {finished}/{self._num_epochs}  "
            f"loss {means['loss']:.3f}  accuracy {means['accuracy']:.1%}  "
            f"validation {accuracy:.2%}  "
            f"{self.faces_per_second:,.0f} faces/s  {self.time_left()} left"
        )
        if hosts.is_first():
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()
