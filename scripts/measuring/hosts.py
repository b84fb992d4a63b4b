"""Whether training over several processes holds up, and what it costs.

    document = soak_hosts(pathlib.Path(folder), num_processes=2)

All processes run on this machine; on CPUs they speak through gloo. Its layout:

    device, threads, load, versions   as of `measuring.speed`
    processes   of the run that is killed, each of two devices
    kills       one run, a process of which is killed again and again (SIGKILL): which
                process, the newest checkpoint then, the seconds until all had ended,
                and the line of one that was left
    same_bits   whether that run ended with the state of one that nobody killed
    speed       faces a second of the quickstart's network, 35 faces a device, by
                "processes x devices each", a core for each device; medians
    reductions  of a training step of ResNet-50 (fer2013_resnet50_finetune), as lowered:
                how many there are, and the bytes of them all
    input       of tf.data, 48-pixel faces a second of a core's time: walked, as by each
                of many processes, and decoded too
    efficiency  two processes against one: of one device each against one alone ("of two
                cores"), and against one process of two devices ("of one process")
"""

import json
import math
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from measuring import timing

from deepfer_jax.data.datasets import load_builder
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.pipeline import create_pipeline
from deepfer_jax.runs.checkpoint import Checkpoints
from deepfer_jax.runs.writers import read_metrics
from deepfer_jax.training.config import read_recipe
from deepfer_jax.training.groups import Groups
from deepfer_jax.training.phases import make_phase

_ROOT = pathlib.Path(__file__).parents[2]
# Without TensorFlow, with which a start takes twice the time.
_MAIN = (
    "import tests.no_tensorflow, runpy\n"
    "runpy.run_module('deepfer_jax.main', run_name='__main__', alter_sys=True)"
)
_MAX_SECONDS = 60  # until all processes have ended
_DELAY = 1.0  # most seconds after a checkpoint at which a process is killed
_SMALL = {
    "dataset.name": "synthetic_faces/small",
    "model.options": "{'stage_features': (8, 16), 'stage_blocks': (1, 1)}",
    "train.batch_size": 28,
    "train.checkpoint_every_steps": 4,
    "train.validate_every_epochs": 5,
    "train.num_epochs": 20,
}
_FAST = {"dataset.name": "synthetic_faces/small", "train.num_epochs": 10}


def soak_hosts(
    folder: pathlib.Path, num_processes: int, num_kills: int = 10, repeats: int = 3
) -> dict[str, Any]:
    """Runs all.

    Args:
      folder: for data, runs and compiled programs.
      num_processes: of the run that is killed.
      num_kills: of its processes.
      repeats: of each measurement of speed.
    """
    document = {"command": "hosts"} | timing.describe_machine()
    whole, killed = folder / "whole", folder / "killed"
    _finish(_start(whole, num_processes, 2, _SMALL))
    kills = []
    for kill in kill_again_and_again(killed, num_processes, num_kills):
        print(json.dumps(kill), file=sys.stderr, flush=True)
        kills.append(kill)
    _finish(_start(killed, num_processes, 2, _SMALL))
    speed = measure_speeds(folder, repeats)
    return document | {
        "reductions": count_reductions(),
        "input": measure_input(folder / "records"),
        "processes": num_processes,
        "kills": kills,
        "same_bits": _final_bits(whole) == _final_bits(killed),
        "speed": speed,
        "efficiency": {
            "of two cores": round(speed["2 x 1"] / speed["1 x 1"] / 2, 3),
            "of one process": round(speed["2 x 1"] / speed["1 x 2"], 3),
        },
    }


def measure_speeds(folder: pathlib.Path, repeats: int) -> dict[str, float]:
    """Faces a second by layout, each measured in turn."""
    layouts = {"1 x 1": (1, 1), "1 x 2": (1, 2), "2 x 1": (2, 1)}
    speeds: dict[str, list[float]] = {name: [] for name in layouts}
    for i in range(repeats):
        for name, (processes, devices) in layouts.items():
            run = folder / f"speed{i}_{processes}{devices}"
            speeds[name].append(measure_speed(run, processes, devices))
    return {name: round(statistics.median(x), 1) for name, x in speeds.items()}


def kill_again_and_again(
    workdir: pathlib.Path, num_processes: int, num_kills: int
) -> Iterator[dict[str, Any]]:
    """One run, started again after each kill; yields what came of it."""
    rng = random.Random(0)
    for _ in range(num_kills):
        processes = _start(workdir, num_processes, 2, _SMALL)
        first = _newest(workdir)
        while _newest(workdir) < first + 4:
            if any(process.poll() is not None for process in processes):
                raise RuntimeError(processes[0].communicate())
            time.sleep(0.02)
        time.sleep(rng.uniform(0, _DELAY))
        victim, newest = rng.randrange(num_processes), _newest(workdir)
        processes[victim].send_signal(signal.SIGKILL)
        start = time.perf_counter()
        left = [x for i, x in enumerate(processes) if i != victim]
        said = [process.communicate()[1].splitlines() for process in left]
        # On a machine that is busy XLA also writes, at length, that it is slow.
        ours = ("error:", "Traceback")
        lines = ["\n".join(x for x in text if x.startswith(ours)) for text in said]
        yield {
            "process": victim,
            "newest_checkpoint": newest,
            "seconds": round(time.perf_counter() - start, 1),
            "line": lines[0],
            "all_said_it": len(set(lines)) == 1,
        }
        processes[victim].communicate()


def measure_speed(workdir: pathlib.Path, num_processes: int, num_devices: int) -> float:
    """Faces a second after the first two epochs, the median of what the run wrote."""
    batch = {"train.batch_size": 35 * num_processes * num_devices}
    fields = _FAST | batch | {"train.log_every_steps": 2}
    _finish(_start(workdir, num_processes, num_devices, fields))
    lines = read_metrics(workdir / "metrics.jsonl")
    rates = [x["train/faces_per_second"] for x in lines if "train/loss" in x]
    return statistics.median(rates[len(rates) // 3 :])


def count_reductions() -> dict[str, int]:
    """Of the step as jax lowers it: XLA puts those of gradients together."""
    config = read_recipe(_ROOT / "configs/fer2013_resnet50_finetune.py")
    data = types.SimpleNamespace(
        steps_per_epoch=100,
        classes=EMOTIONS,
        image_shape=(48, 48, 1),
        lookup=lambda resident, inputs: inputs,
    )
    init, run_steps = make_phase(config, data, Groups(()).phase(0))
    batch = {
        "image": jax.ShapeDtypeStruct((1, 1, 64, 48, 48, 1), np.uint8),
        "label": jax.ShapeDtypeStruct((1, 1, 64), np.int32),
    }
    text = run_steps.lower(jax.eval_shape(init), {}, batch).as_text()
    # ... }) : (tensor<3x3x64x64xf32>) -> tensor<3x3x64x64xf32>
    pattern = r'"stablehlo.all_reduce".*?\}\) .*?: \(tensor<(.*?)>\) ->'
    shapes = [found[1] for found in re.finditer(pattern, text, re.DOTALL)]
    sizes = [math.prod(map(int, shape.split("x")[:-1])) for shape in shapes]
    return {"number": len(sizes), "bytes": 4 * sum(sizes)}


def measure_input(data_dir: pathlib.Path, num_faces: int = 28_000) -> dict[str, int]:
    """Faces by seconds of processor time, all threads together."""
    builder = load_builder("synthetic_faces/small", data_dir)
    pipeline = create_pipeline("tf.data", builder, "train", 64, 0, 280)
    stored = pipeline._stored.repeat(num_faces // 280)
    rates = {}
    for name, rows in {"walked": slice(0, 1), "decoded": slice(0, 64)}.items():
        for faces in (64, num_faces):  # a first batch warms up
            start = time.process_time()
            for _ in pipeline._read(stored.take(faces), 64, rows):
                pass
            rates[name] = round(faces / (time.process_time() - start))
    return rates


def _start(
    workdir: pathlib.Path, num_processes: int, num_devices: int, fields: dict[str, Any]
) -> list[subprocess.Popen]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [sys.executable, "-c", _MAIN]
    command += ["--config", "configs/quickstart.py", "--workdir", str(workdir)]
    fields = {"dataset.data_dir": workdir.parent / "data"} | fields
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(num_devices),
        "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "programs"),
    }
    cores = sorted(os.sched_getaffinity(0))
    processes = []
    for i in range(num_processes):
        numbers = ["--num_processes", str(num_processes), "--process_id", str(i)]
        together = ["--coordinator", address, *numbers] if num_processes > 1 else []
        own = {cores[(i * num_devices + k) % len(cores)] for k in range(num_devices)}
        process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, own)), *command, *together],
            cwd=_ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
    return processes


def _finish(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        _, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(errors)


def _newest(workdir: pathlib.Path) -> int:
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _final_bits(workdir: pathlib.Path) -> list[bytes]:
    checkpoints = Checkpoints(workdir / "checkpoints")
    state = checkpoints.restore_arrays(checkpoints.steps[-1])
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(state)]


def find_failures(document: dict[str, Any]) -> Iterator[str]:
    """What does not hold, in words."""
    for i, kill in enumerate(document["kills"], start=1):
        if kill["seconds"] > _MAX_SECONDS:
            yield f"kill {i}: all had ended after {kill['seconds']} s"
        expected = f"error: process {kill['process']} of this run ended"
        one_line = "\n" not in kill["line"] and kill["all_said_it"]
        if not one_line or not kill["line"].startswith(expected):
            yield f"kill {i}: {kill['line']!r}"
    if not document["same_bits"]:
        yield "a run that was killed ended otherwise than one that was not"
