"""Where a run's numbers go: metrics.jsonl, and TensorBoard where TensorFlow is.

    with MetricWriter(workdir, first_step=state_step) as writer:
        writer.write(100, "train", {"loss": 0.7, "accuracy": 0.71})

A line of metrics.jsonl is {"step": 100, "train/loss": 0.7, ...}. A run that resumes at
step s first drops the lines after s, so that each step stands there once.
"""

import contextlib
import json
import os
import pathlib
from typing import Any, TextIO

from deepfer_jax import hosts


class MetricWriter:
    """Appends scalars to WORKDIR/metrics.jsonl and to TensorBoard's event files.

    Of several processes only process 0 does.

    Args:
      workdir: folder of the run.
      first_step: finished steps of the run; later lines are dropped.
    """

    def __init__(self, workdir: str | os.PathLike, first_step: int):
        self._file: TextIO | None = None
        self._tensorboard: Any = None
        if hosts.is_first():
            self._open(workdir, first_step)

    def _open(self, workdir: str | os.PathLike, first_step: int) -> None:
        path = pathlib.Path(workdir) / "metrics.jsonl"
        kept = [x for x in read_metrics(path) if x["step"] <= first_step]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, path)
        self._file = path.open("a")
        with contextlib.suppress(ImportError):
            from deepfer_jax.data.datasets import import_tensorflow

            import_tensorflow()
            from clu import metric_writers

            self._tensorboard = metric_writers.SummaryWriter(str(workdir))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._file is not None:
            self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def write(self, step: int, prefix: str, scalars: dict[str, float]) -> None:
        if self._file is None:
            return
        named = {f"{prefix}/{name}": float(x) for name, x in scalars.items()}
        print(json.dumps({"step": step} | named), file=self._file, flush=True)
        if self._tensorboard is not None:
            self._tensorboard.write_scalars(step, named)
            self._tensorboard.flush()


def read_metrics(path: str | os.PathLike) -> list[dict]:
    """Returns the lines of a metrics.jsonl; [] where there is none.

    A last line that was cut off by a kill is left out.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(text))
    return lines
