"""hosts: two processes of two devices, in this machine, are one of four, and end well.

In the order below, so that what a test waits for happens while others run.
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from deepfer_jax import hosts
from deepfer_jax.errors import UserError
from deepfer_jax.runs.checkpoint import Checkpoints
from deepfer_jax.runs.writers import read_metrics

ROOT = pathlib.Path(__file__).parents[1]
# Without TensorFlow a process starts in half the time.
MAIN = (
    "import tests.no_tensorflow, runpy\n"
    "runpy.run_module('deepfer_jax.main', run_name='__main__', alter_sys=True)"
)
# 60 steps, a checkpoint every four.
FIELDS = {
    "augment.flip": 0.5,
    "train.num_epochs": 6,
    "train.checkpoint_every_steps": 4,
    "train.ema_decay": 0.9,
}


def start(args, devices=2, **env):
    return subprocess.Popen(
        [sys.executable, *map(str, args)],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def finish(processes, seconds=500):
    """[(exit code, output, errors)]."""
    try:
        said = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    return [(code, *texts) for code, texts in zip(codes, said, strict=True)]


@pytest.fixture(scope="module")
def array_data_dir(tmp_path_factory):
    from deepfer_jax.data.synthetic.builder import SyntheticFaces

    folder = str(tmp_path_factory.mktemp("arrays"))
    builder = SyntheticFaces(
        config="small", data_dir=folder, file_format="array_record"
    )
    builder.download_and_prepare()
    return folder


@pytest.fixture(scope="module")
def start_pair(array_data_dir):
    """Starts a run of two processes; each has a disk, and the workdir, of its own."""

    def run(workdir, of_second=(), **fields):
        fields = FIELDS | {"dataset.data_dir": array_data_dir} | fields
        address, processes = f"127.0.0.1:{free_port()}", []
        for number in (0, 1):
            args = ["-c", MAIN, "--config", "tests/small_recipe.py"]
            args += ["--workdir", workdir if number == 0 else f"{workdir}_1"]
            args += ["--coordinator", address, "--num_processes=2"]
            args += [f"--process_id={number}"]
            args += [f"--config.{name}={x}" for name, x in fields.items()]
            processes.append(start(args + (list(of_second) if number else [])))
        return processes

    return run


@pytest.fixture(scope="module")
def whole(start_pair, tmp_path_factory):
    """(workdir, [(exit code, output, errors)]) of a run that nobody disturbed."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return workdir, finish(start_pair(workdir))


def newest(workdir):
    """The last step whose checkpoint has its sums and its name."""
    done = {int(path.stem) for path in (workdir / "checkpoints").glob("*.sha256")}
    return max((x for x in done if (workdir / f"checkpoints/{x}").exists()), default=0)


def wait_for_step(workdir, step, processes):
    deadline = time.monotonic() + 200
    while newest(workdir) < step:
        codes = [process.poll() for process in processes]
        if codes != [None, None] or time.monotonic() > deadline:
            pytest.fail(f"step {step} was not reached: {finish(processes, 1)}")
        time.sleep(0.02)


@pytest.fixture(scope="module")
def told_and_killed(start_pair, tmp_path_factory):
    """A run whose second process got SIGTERM; started again, SIGKILL.

    Returns (workdir, what the first start said, the second's processes).
    """
    workdir = tmp_path_factory.mktemp("disturbed") / "run"
    processes = start_pair(workdir)
    wait_for_step(workdir, 8, processes)
    processes[1].send_signal(signal.SIGTERM)
    said = finish(processes)
    processes = start_pair(workdir)
    wait_for_step(workdir, newest(workdir) + 8, processes)
    processes[1].kill()
    return workdir, said, processes, time.monotonic()


def test_sigterm_to_one_saves_and_ends_all(told_and_killed):
    _, said, _, _ = told_and_killed
    for code, output, errors in said:
        assert code == 128 + signal.SIGTERM, errors
        assert "stopped by SIGTERM after step" in output
        assert "Traceback" not in errors
        assert "error" not in errors
    lines = [output.splitlines()[-1] for _, output, _ in said]
    assert lines[0] == lines[1]


def test_only_the_first_writes_and_speaks(whole):
    workdir, said = whole
    (code, output, errors), (other_code, other_output, other_errors) = said
    assert (code, other_code) == (0, 0), errors + other_errors
    assert "and on as many of 1 other processes" in output
    assert "run complete: 6 epochs" in output
    words = [x for x in other_output.splitlines() if not x.startswith("[Gloo]")]
    assert words == []
    assert other_errors == ""
    assert not pathlib.Path(f"{workdir}_1").exists()
    lines = read_metrics(workdir / "metrics.jsonl")
    steps = [line["step"] for line in lines if "validation/nll" in line]
    assert steps == [10, 20, 30, 40, 50, 60]
    assert Checkpoints(workdir / "checkpoints").newest() == 60


def test_another_recipe_is_refused_by_name(start_pair, tmp_path):
    second = ["--config.train.batch_size=56", "--config.dataset.data_dir=/elsewhere"]
    for code, output, errors in finish(start_pair(tmp_path / "run", second)):
        assert code == 1
        (line, advice) = errors.splitlines()
        assert line.startswith("error: process 1 (")
        assert "has another configuration than process 0" in line
        assert line.endswith("): train.batch_size is 56, there 28")
        assert advice == "start every process with the same"
        assert "epoch" not in output


@pytest.fixture(scope="module")
def found(small_data_dir, tmp_path_factory):
    """What tests.hosts_worker found in one process, and in each of two."""
    folder = tmp_path_factory.mktemp("worker")
    worker, address = ("-m", "tests.hosts_worker"), f"127.0.0.1:{free_port()}"
    pair = [
        start([*worker, folder / f"{i}.npz", small_data_dir, address, i])
        for i in (0, 1)
    ]
    said = finish(pair)
    one = start([*worker, folder / "one.npz", small_data_dir], devices=4)
    for code, _, errors in [*said, *finish([one])]:
        assert code == 0, errors
    return [dict(np.load(folder / f"{name}.npz")) for name in ("one", 0, 1)]


@pytest.mark.parametrize(
    ("pipeline", "part", "tolerance"),
    [
        ("resident", "one", 1e-6),
        ("resident", "ten", 1e-4),
        ("resident", "losses", 1e-4),
        ("tf.data", "one", 1e-6),
        ("tf.data", "ten", 1e-4),
        ("tf.data", "losses", 1e-4),
        ("tf.data", "sums", 1e-3),
        ("tf.data", "probabilities", 1e-4),
    ],
)
def test_two_processes_do_what_one_does(found, pipeline, part, tolerance):
    one, first, second = found
    names = [x for x in one if x.startswith(f"{pipeline}/{part}/")]
    assert names
    for name in names:
        np.testing.assert_array_equal(first[name], second[name], name)
        np.testing.assert_allclose(first[name], one[name], 0, tolerance, err_msg=name)
    if part == "probabilities":
        assert one[names[0]].shape == (140, 7)


def test_a_disagreement_names_process_and_field(found):
    _, first, second = found
    assert first["refused"] == second["refused"]
    assert str(first["refused"]).startswith("process 1 (")
    assert "has another recipe than process 0 (" in str(first["refused"])
    assert "): seed is 1, there 0\n" in str(first["refused"])


def test_sigkill_to_one_ends_all_and_the_run_goes_on_to_the_same_bits(
    told_and_killed, whole, start_pair
):
    workdir, _, processes, killed = told_and_killed
    (code, _, errors), (other_code, _, _) = finish(processes, seconds=60)
    assert other_code == -signal.SIGKILL
    assert code not in (0, None)
    (line,) = errors.splitlines()
    assert line.startswith("error: process 1 of this run ended or answers no more")
    print(f"ended {time.monotonic() - killed:.0f} s after at the most")
    step = newest(workdir)
    (code, output, errors), _ = finish(start_pair(workdir))
    assert code == 0, errors
    assert f"resuming after step {step} of 60" in output
    states = [
        Checkpoints(folder / "checkpoints").restore_arrays(60)
        for folder in (workdir, whole[0])
    ]
    jax.tree.map(np.testing.assert_array_equal, *states)
    lines, expected = (
        [
            {name: x for name, x in line.items() if name != "train/faces_per_second"}
            for line in read_metrics(folder / "metrics.jsonl")
            if "validation/nll" in line
        ]
        for folder in (workdir, whole[0])
    )
    assert lines == expected


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, False),  # a shell of salloc
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
    ],
)
def test_others_are_looked_for_where_there_are_some(monkeypatch, environment, several):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "TPU_", "JOB_", "KUBERNETES_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    joined = []
    monkeypatch.setattr(hosts, "_join", lambda *args: joined.append(args))
    monkeypatch.setattr(jax.distributed, "shutdown", lambda: None)
    with hosts.joined():
        pass
    assert joined == [(None, None, None)] * several


def test_a_number_without_a_coordinator_is_refused():
    with (
        pytest.raises(UserError, match="need --coordinator HOST:PORT"),
        hosts.joined(process_id=1),
    ):
        pass


def test_one_process_exchanges_nothing():
    value, tree = {"a": [1]}, {"x": np.ones(2)}
    assert hosts.gather(value) == [value]
    assert hosts.from_first(value) is value
    assert hosts.broadcast(tree) is tree
    hosts.agree("anything", value)
    hosts.barrier("anywhere")
