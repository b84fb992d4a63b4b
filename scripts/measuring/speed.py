"""Speed of training and of inference, as one JSON document.

    plan = Plan(config, models=["tiny"], precisions=["float32"])
    document = benchmark_train(plan, ["resident", "tf.data", "fixed"])
    document = benchmark_infer(plan, [1, 64, 256])

Its layout, in which every key is always there:

    command      "train" or "infer"
    device       {platform: "cpu", "gpu" or "tpu", kind, count}
    threads      processors that this process may use
    load         runnable processes before the measurements (mean of a minute): where it
                 is not near 0, others used the machine too
    versions     {python, jax, jaxlib, torch}; torch is null where nothing is compared
    runs         list of {framework: "jax" or "torch", model, precision, batch_size,
                 image_size, faces_per_second, peak_memory_mb, peak_memory_of} and
                   train: pipeline, augmented, steps_per_call, ms_per_step, host_input
                   infer: exported, ms_per_call (median), ms_per_call_p95
    comparisons  list of {name, model, precision, batch_size, ratio, lowest, highest,
                 num_pairs, target, met}: faces a second of one over the other, the
                 median of paired, alternating measurements; target and met are null
                 where there is none. The names are resident_over_fixed,
                 resident_over_tf_data and jax_over_torch.

In training, `fixed` is one batch that never leaves the device, in the same program: the
most that any pipeline can reach; `augmented` is as the recipe has it. `host_input` says
whether a call of the program moves anything from the host to the device: one was made
with such transfers forbidden. Peak memory is a high-water mark of the device (or else
of the process), so a run's is that of the runs before it too: measure one alone to know
its own.

Against PyTorch both sides train on one batch that stays on the device, without
augmentation, dropout, class weights or moving average; `measuring.speed_torch`
says what else is the same and what is not. PyTorch's threads wait for each other at
every operation, so that on a CPU which others use they lose far more than ours do:
believe that ratio on an idle machine, or on one processor (`taskset -c 0`).
"""

import functools
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from measuring import speed_torch, timing
from measuring.speed_jax import (
    PIPELINES,
    Inference,
    Training,
    choose_model,
    create_inference,
    open_faces,
    open_inference,
    without_chance,
)
from ml_collections import ConfigDict

from deepfer_jax.errors import UserError
from deepfer_jax.models import MODELS
from deepfer_jax.training.config import check_config

_log = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16")
# The least ratio of faces a second: at most 10 % dearer than no input at all, and no
# slower than the pipeline for large data.
TARGETS = {"resident_over_fixed": 1 / 1.1, "resident_over_tf_data": 1.0}


class Plan(NamedTuple):
    """What is measured, and for how long.

    Attributes:
      config: the recipe: data set, batch size, augmentation, loss, optimiser, and the
        options of the model that it names.
      models: names of MODELS.
      precisions: of PRECISIONS; every model is measured in each.
      image_size: 48 for the recipe's data set, another for noise of that size.
      compare_torch: whether the same is measured in PyTorch too.
      seconds: of one measurement.
      num_rounds: how many of them each task has.
    """

    config: ConfigDict
    models: Sequence[str]
    precisions: Sequence[str]
    image_size: int = 48
    compare_torch: bool = False
    seconds: float = 1.0
    num_rounds: int = 7

    def recipes(self) -> list[ConfigDict]:
        """The recipe with each model in each precision.

        Raises:
          UserError: an unknown name, or a number too small.
        """
        _check("model", self.models, MODELS)
        _check("precision", self.precisions, PRECISIONS)
        for name, value, least in (
            ("image_size", self.image_size, 16),
            ("rounds", self.num_rounds, 1),
            ("batch_size", self.config.train.batch_size, 1),
        ):
            if value < least:
                raise UserError(f"--{name}: expected {least} or more, found {value}")
        pairs = itertools.product(self.models, self.precisions)
        return [choose_model(self.config, *pair) for pair in pairs]


def benchmark_train(plan: Plan, pipelines: Sequence[str]) -> dict[str, Any]:
    """Measures the training program; `pipelines` are compared with each other.

    Raises:
      UserError: an unknown name, no such data, or no PyTorch.
    """
    _check("pipeline", pipelines, PIPELINES)
    check_config(plan.config)
    recipes = plan.recipes()
    report = Report("train", plan)
    with open_faces(plan.config, plan.image_size) as builder:
        for recipe in recipes:
            tasks = {name: Training(recipe, name, builder) for name in pipelines}
            report.measure_training(tasks)
            if plan.compare_torch:
                ours = Training(without_chance(recipe), "fixed", builder)
                theirs = speed_torch.Training(
                    ours.recipe, ours.network, ours.variables, ours.batch
                )
                report.measure_training({"jax": ours, "torch": theirs})
    return report.document()


def benchmark_infer(
    plan: Plan, batch_sizes: Sequence[int], model_dir: str | os.PathLike | None = None
) -> dict[str, Any]:
    """Measures whole calls, from faces to probabilities, both NumPy arrays.

    Args:
      plan: its models have random weights, which take as long as others.
      batch_sizes: faces a call.
      model_dir: an exported model to measure in place of the plan's.

    Raises:
      UserError: an unknown name, no such model, or no PyTorch.
    """
    if min(batch_sizes) < 1:
        raise UserError(f"--batch_sizes: expected 1 or more, found {min(batch_sizes)}")
    recipes = plan.recipes()
    report = Report("infer", plan)
    if model_dir is not None:
        subjects = [open_inference(model_dir)]
    else:
        subjects = (create_inference(r.model, plan.image_size) for r in recipes)
    for subject in subjects:
        calls = {"jax": subject.predict}
        if plan.compare_torch:
            calls["torch"] = speed_torch.create_predict(
                *subject.load(), subject.image_shape
            )
        for size in batch_sizes:
            report.measure_inference(subject, calls, size)
    return report.document()


class Report:
    """Measures, and collects what goes into the document."""

    def __init__(self, command: str, plan: Plan):
        self._command, self._plan = command, plan
        self._machine = timing.describe_machine()
        self._machine["versions"]["torch"] = (
            speed_torch.check_torch() if plan.compare_torch else None
        )
        self._runs, self._comparisons = [], []

    def document(self) -> dict[str, Any]:
        return (
            {"command": self._command}
            | self._machine
            | {"runs": self._runs, "comparisons": self._comparisons}
        )

    def measure_training(self, tasks: dict[str, Any]) -> None:
        """Measures `Training`s of the same recipe beside each other."""
        memory = {}
        for name, task in tasks.items():
            _log.info("%s %s %s", task.facts["model"], task.facts["precision"], name)
            task.warm_up()
            memory[name] = timing.peak_memory()
        first = next(iter(tasks.values()))
        num_steps = first.num_steps * timing.num_calls_in(first, self._plan.seconds)
        for task in tasks.values():
            task.num_steps = num_steps
        timings = timing.measure(tasks, self._plan.num_rounds)
        for name, task in tasks.items():
            speed = float(np.median(timings[name].rates))
            measured = {
                "faces_per_second": round(speed, 1),
                "ms_per_step": round(1e3 * task.facts["batch_size"] / speed, 3),
            }
            self._runs.append(task.facts | measured | memory[name])
        self._comparisons += _compare(first.facts, timings)

    def measure_inference(
        self, subject: Inference, calls: dict[str, Callable], batch_size: int
    ) -> None:
        """Measures `predict` functions of the same network beside each other."""
        rng = np.random.default_rng(0)
        shape = (batch_size, *subject.image_shape)
        faces = rng.integers(0, 256, shape).astype(np.uint8)
        facts = subject.facts | {"batch_size": batch_size}
        tasks, memory = {}, {}
        for name, call in calls.items():
            _log.info("%s, batches of %d, %s", facts["model"], batch_size, name)
            tasks[name] = functools.partial(_predict, call, faces)
            for _ in range(3):
                tasks[name]()
            memory[name] = timing.peak_memory()
        num_calls = timing.num_calls_in(tasks["jax"], self._plan.seconds)
        timings = timing.measure(tasks, self._plan.num_rounds, num_calls)
        for name, times in timings.items():
            milliseconds = 1e3 * times.seconds
            measured = {
                "faces_per_second": round(float(np.median(times.rates)), 1),
                "ms_per_call": round(float(np.median(milliseconds)), 3),
                "ms_per_call_p95": round(float(np.percentile(milliseconds, 95)), 3),
            }
            self._runs.append({"framework": name} | facts | measured | memory[name])
        self._comparisons += _compare(facts, timings)


def _predict(call: Callable, faces: np.ndarray) -> int:
    return len(call(faces))


def _compare(facts: dict, timings: dict[str, timing.Timings]) -> list[dict[str, Any]]:
    """A row for each pair that was measured side by side."""
    about = {name: facts[name] for name in ("model", "precision", "batch_size")}
    pairs = [("resident", "fixed"), ("resident", "tf.data"), ("jax", "torch")]
    rows = []
    for ours, theirs in pairs:
        if ours in timings and theirs in timings:
            name = f"{ours}_over_{theirs.replace('.', '_')}"
            row = timing.compare(timings[ours], timings[theirs])
            target = TARGETS.get(name)
            met = None if target is None else row["ratio"] >= target
            target = None if target is None else round(target, 4)
            rows.append({"name": name} | about | row | {"target": target, "met": met})
    return rows


def _check(what: str, names: Sequence[str], choices: Iterable[str]) -> None:
    for name in names:
        if name not in choices:
            raise UserError(
                f"--{what}: expected one of {', '.join(choices)}, found {name!r}"
            )
