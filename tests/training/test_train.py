"""train: resume to the bit, signals, damage, extension, both pipelines, end to end."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from deepfer_jax.errors import UserError
from deepfer_jax.runs.checkpoint import Checkpoints
from deepfer_jax.runs.writers import read_metrics
from deepfer_jax.training.train import train_and_evaluate

ROOT = pathlib.Path(__file__).parents[2]
# Ten steps an epoch.
FIELDS = {
    "augment.flip": 0.5,
    "augment.rotation": 5.0,
    "augment.shift": 0.05,
    "optimizer.learning_rate": 4e-3,
    "train.num_epochs": 3,
    "train.checkpoint_every_steps": 4,
    "train.ema_decay": 0.9,
}


@pytest.fixture(scope="session")
def main_command(small_data_dir):
    """Returns the arguments of Python for a run of deepfer_jax.main."""

    def make(workdir, **fields):
        fields = FIELDS | {"dataset.data_dir": small_data_dir} | fields
        command = ["-m", "deepfer_jax.main", "--config", "tests/small_recipe.py"]
        command += ["--workdir", str(workdir)]
        return command + [f"--config.{name}={x}" for name, x in fields.items()]

    return make


@pytest.fixture(scope="session")
def run_main(main_command, run_python):
    def run(workdir, check=True, env=(), **fields):
        return run_python(*main_command(workdir, **fields), check=check, env=env)

    return run


@pytest.fixture(scope="session")
def uninterrupted(run_main, tmp_path_factory):
    """A whole run of three epochs through each pipeline, by name."""
    folders = {}

    def get(pipeline):
        if pipeline not in folders:
            folder = tmp_path_factory.mktemp("whole")
            run_main(folder, **{"dataset.pipeline": pipeline})
            folders[pipeline] = folder
        return folders[pipeline]

    return get


def final_state(workdir):
    checkpoints = Checkpoints(workdir / "checkpoints")
    assert checkpoints.newest() == 30
    return checkpoints.restore_arrays(30)


def assert_same_bits(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(np.testing.assert_array_equal, left, right)


def wait_for_step(workdir, step, process):
    """Returns when the run has written the metrics of that step."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        lines = read_metrics(workdir / "metrics.jsonl")
        if lines and lines[-1]["step"] >= step:
            return
        time.sleep(0.02)
    pytest.fail(f"step {step} was not reached; exit code {process.poll()}")


def start(main_command, workdir, **fields):
    command = [sys.executable, *main_command(workdir, **fields)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def steps_of(workdir, prefix):
    lines = read_metrics(workdir / "metrics.jsonl")
    return [line["step"] for line in lines if f"{prefix}/accuracy" in line]


@pytest.mark.parametrize("pipeline", ["resident", "tf.data"])
def test_killed_and_started_again_ends_with_the_same_bits(
    main_command, run_main, uninterrupted, tmp_path, pipeline
):
    fields = {"dataset.pipeline": pipeline}
    expected = uninterrupted(pipeline)
    process = start(main_command, tmp_path, **fields)
    rng = random.Random(pipeline)
    step = rng.choice([3, 6, 8, 12, 15, 18, 21, 24])
    wait_for_step(tmp_path, step, process)
    time.sleep(rng.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.wait()
    print(f"killed after step {step}")
    result = run_main(tmp_path, **fields)
    assert "resuming after step" in result.stdout or step <= 4
    assert_same_bits(final_state(tmp_path), final_state(expected))
    assert steps_of(tmp_path, "train") == steps_of(expected, "train")
    assert steps_of(tmp_path, "validation") == [10, 20, 30]


def test_sigterm_saves_and_exits(main_command, run_main, uninterrupted, tmp_path):
    process = start(main_command, tmp_path)
    wait_for_step(tmp_path, 6, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step" in output
    newest = Checkpoints(tmp_path / "checkpoints").newest()
    assert f"after step {newest}" in output
    result = run_main(tmp_path)
    assert f"resuming after step {newest} of 30" in result.stdout
    assert_same_bits(final_state(tmp_path), final_state(uninterrupted("resident")))


def test_what_a_run_writes(uninterrupted):
    workdir = uninterrupted("resident")
    lines = read_metrics(workdir / "metrics.jsonl")
    train = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in train] == [
        3, 4, 6, 8, 9, 10, 12, 15, 16, 18, 20, 21, 24, 27, 28, 30,
    ]  # fmt: skip
    assert set(train[0]) == {
        "step",
        "train/accuracy",
        "train/faces_per_second",
        "train/gradient_norm",
        "train/learning_rate",
        "train/loss",
        "train/update_norm",
    }
    validation = [line for line in lines if "validation/nll" in line]
    assert [line["step"] for line in validation] == [10, 20, 30]
    config = json.loads((workdir / "config.json").read_text())
    assert config["train"]["batch_size"] == 28
    assert "head" in (workdir / "parameters.txt").read_text()
    assert list(workdir.glob("events.out.tfevents.*"))


def test_a_finished_run_says_so_and_can_be_extended(run_main, uninterrupted, tmp_path):
    workdir = tmp_path / "copy"
    subprocess.run(["cp", "-r", uninterrupted("resident"), workdir], check=True)
    result = run_main(workdir)
    assert "run complete: 3 epochs; best is epoch" in result.stdout
    assert_same_bits(final_state(workdir), final_state(uninterrupted("resident")))
    result = run_main(workdir, **{"train.num_epochs": 4})
    assert "num_epochs was 3, now 4" in result.stdout
    assert "run complete: 4 epochs" in result.stdout
    assert Checkpoints(workdir / "checkpoints").newest() == 40


def test_another_configuration_is_refused_without_a_traceback(run_main, uninterrupted):
    workdir = uninterrupted("resident")
    result = run_main(workdir, check=False, **{"optimizer.learning_rate": 0.5})
    assert result.returncode == 1
    assert "optimizer.learning_rate: 0.004 there, 0.5 now" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "configs/nope.py"], "configs/nope.py"),
        (["--config", "configs/default.py", "--config.train.nope=3"], "nope"),
        (["--config", "configs/default.py", "--config.augment.flip=2"], "augment.flip"),
        (
            ["--config", "configs/fer2013_tiny.py", "--config.dataset.data_dir=none"],
            "scripts/prepare_data.py --dataset fer2013",
        ),
    ],
)
def test_mistakes_end_in_one_line(run_python, tmp_path, arguments, message):
    result = run_python(
        *("-m", "deepfer_jax.main", "--workdir", tmp_path, *arguments), check=False
    )
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_damaged_checkpoint_is_named_and_an_older_one_used(
    run_main, uninterrupted, tmp_path
):
    workdir = tmp_path / "copy"
    expected = uninterrupted("resident")
    subprocess.run(["cp", "-r", expected, workdir], check=True)
    files = [p for p in (workdir / "checkpoints" / "30").rglob("*") if p.is_file()]
    largest = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    result = run_main(workdir)
    assert "is not as it was saved" in result.stdout
    assert "resuming after step 28 of 30" in result.stdout
    assert_same_bits(final_state(workdir), final_state(expected))


def test_both_pipelines_learn_and_evaluate_alike(uninterrupted):
    best = {}
    for pipeline in ("resident", "tf.data"):
        lines = read_metrics(uninterrupted(pipeline) / "metrics.jsonl")
        best[pipeline] = [x["train/loss"] for x in lines if "train/loss" in x]
    assert best["resident"] != best["tf.data"]
    for losses in best.values():
        assert losses[-1] < losses[0]


@pytest.mark.parametrize("pipeline", ["resident", "tf.data"])
def test_four_devices_and_several_steps_a_call(
    run_main, uninterrupted, tmp_path, pipeline
):
    fields = {
        "dataset.pipeline": pipeline,
        "train.steps_per_call": 4,
        "train.num_epochs": 1,
        "train.checkpoint_every_steps": 0,
    }
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    run_main(tmp_path, env=flags, **fields)
    assert steps_of(tmp_path, "train") == [4, 8, 10]
    assert steps_of(tmp_path, "validation") == [10]
    # The same batches as one device and single steps: the first losses agree.
    lines = read_metrics(tmp_path / "metrics.jsonl")
    expected = read_metrics(uninterrupted(pipeline) / "metrics.jsonl")
    by_hand = (3 * expected[0]["train/loss"] + expected[1]["train/loss"]) / 4
    assert lines[0]["train/loss"] == pytest.approx(by_hand, abs=0.05)


def test_a_batch_that_devices_cannot_share_is_refused(run_python, small_data_dir):
    code = (
        "from deepfer_jax.data import datasets\n"
        "from deepfer_jax.data.pipeline import create_pipeline\n"
        f"data = datasets.load_builder('synthetic_faces/small', {small_data_dir!r})\n"
        "create_pipeline('resident', data, 'train', 30, 0, 1).steps_per_epoch"
    )
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    result = run_python("-c", code, env=flags, check=False, fresh=False)
    assert "batch_size=30 cannot be shared equally by 4 devices" in result.stderr


def test_a_loss_that_is_not_finite_stops_with_the_step(small_config, tmp_path):
    with small_config.unlocked():
        small_config.optimizer.name = "sgd"
        small_config.optimizer.learning_rate = 1e30
        small_config.optimizer.clip_norm = 0.0
        small_config.optimizer.warmup_epochs = 0.0
    with pytest.raises(UserError, match=r"not finite at step \d+ \(epoch 1\)"):
        train_and_evaluate(small_config, tmp_path)
    assert Checkpoints(tmp_path / "checkpoints").newest() is None


def test_the_seed_fixes_everything(small_config, tmp_path):
    small_config.train.num_epochs = 1
    small_config.model.dropout_rate = 0.3
    small_config.augment.erasing = 0.5
    states = []
    for i, seed in enumerate((0, 0, 1)):
        small_config.seed = seed
        train_and_evaluate(small_config, tmp_path / str(i))
        checkpoints = Checkpoints(tmp_path / str(i) / "checkpoints")
        states.append(checkpoints.restore_arrays(10)["params"])
    assert_same_bits(states[0], states[1])
    kernels = [state["head"]["kernel"] for state in states]
    assert np.abs(kernels[0] - kernels[2]).max() > 1e-3


def test_a_profile_of_chosen_steps_is_written(small_config, tmp_path):
    small_config.train.num_epochs = 1
    small_config.train.profile_steps = (3, 4)
    train_and_evaluate(small_config, tmp_path)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
