"""The loop's calls of the compiled program: one program, every step, no transfers."""

import shutil
import signal

import jax
import jax.monitoring
import numpy as np
import pytest

from deepfer_jax.data.pipeline import Resident, TfData
from deepfer_jax.runs.checkpoint import Checkpoints
from deepfer_jax.runs.writers import read_metrics
from deepfer_jax.training import train
from deepfer_jax.training.step import steps_per_call
from deepfer_jax.training.train import Stopped, train_and_evaluate

COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def config(small_config):
    """Of ten steps an epoch, in calls of 4, 4 and 2 and 2 more that do not count."""
    small_config.train.update({"steps_per_call": 4, "checkpoint_every_steps": 4})
    return small_config


@pytest.fixture
def calls(monkeypatch):
    """For each call of the training program, how many programs it compiled."""
    found, compiled = [], []
    call = train.call

    def counted(*args):
        before = len(compiled)
        result = call(*args)
        found.append(len(compiled) - before)
        return result

    def note(event, _, **__):
        if event == COMPILED:
            compiled.append(event)

    monkeypatch.setattr(train, "call", counted)
    jax.monitoring.register_event_duration_secs_listener(note)
    yield found
    jax.monitoring.unregister_event_duration_listener(note)


@pytest.mark.parametrize(
    ("most", "steps_per_epoch", "expected"),
    [
        (20, 448, 16),
        (20, 443, 12),
        (20, 7, 7),
        (20, 23, 12),
        (20, 1, 1),
        (4, 10, 4),
        (1, 443, 1),
        (0, 448, 1),  # on a CPU
    ],
)
def test_the_length_of_calls_wastes_few_steps(
    small_config, most, steps_per_epoch, expected
):
    small_config.train.steps_per_call = most
    assert steps_per_call(small_config.train, steps_per_epoch) == expected


@pytest.mark.parametrize("pipeline", ["resident", "tf.data"])
def test_a_run_compiles_one_program_and_so_does_its_second_start(
    config, calls, tmp_path, pipeline, monkeypatch
):
    """The second starts in the middle of an epoch, and ends with the same bits."""
    config.dataset.pipeline = pipeline
    train_and_evaluate(config, tmp_path / "whole")
    assert len(calls) == 6
    assert calls[0] == 1
    assert not any(calls[1:])
    expected = Checkpoints(tmp_path / "whole" / "checkpoints").restore_arrays(20)
    steps = [
        line["step"]
        for line in read_metrics(tmp_path / "whole" / "metrics.jsonl")
        if "train/loss" in line
    ]
    assert steps == [4, 8, 10, 14, 18, 20]

    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(train, "call", stopping_after(4))
        with pytest.raises(Stopped, match="after step 14"):
            train_and_evaluate(config, tmp_path / "twice")
    assert train_and_evaluate(config, tmp_path / "twice")["step"] in (10, 20)
    assert calls == [1, 0, 0, 0, 1, 0]
    found = Checkpoints(tmp_path / "twice" / "checkpoints").restore_arrays(20)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def stopping_after(num_calls):
    """train.call that sends a signal in that call."""
    call = train.call
    number = 0

    def stopping(*args):
        nonlocal number
        number += 1
        if number == num_calls:
            signal.raise_signal(signal.SIGTERM)
        return call(*args)

    return stopping


def test_a_run_can_go_on_with_calls_of_another_length(config, calls, tmp_path):
    """One program then too, for what is left of an epoch and for whole ones."""
    train_and_evaluate(config, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "20")
    calls.clear()
    config.train.update({"steps_per_call": 5, "num_epochs": 3})
    train_and_evaluate(config, tmp_path)
    assert calls == [1, 0, 0]  # from step 18 on: 2, 5 and 5 steps
    assert Checkpoints(tmp_path / "checkpoints").restore_arrays(30)["step"] == 30


@pytest.mark.parametrize("where", ["resident", "state"])
def test_what_comes_from_the_host_unasked_raises(config, tmp_path, monkeypatch, where):
    call = train.call

    def sneaking(run_steps, state, resident, inputs, step):
        if step and where == "resident":
            resident = jax.device_get(resident)
        elif step:
            state = jax.device_get(state)
        return call(run_steps, state, resident, inputs, step)

    monkeypatch.setattr(train, "call", sneaking)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device"):
        train_and_evaluate(config, tmp_path)


@pytest.mark.parametrize("kind", ["none", "balanced"])
def test_labels_are_counted_only_for_class_weights(config, tmp_path, monkeypatch, kind):
    counted = []

    def counts(self):
        counted.append(self)
        return np.full(7, 40)

    for pipeline in (Resident, TfData):
        monkeypatch.setattr(pipeline, "label_counts", property(counts))
    config.dataset.pipeline = "tf.data"
    config.train.num_epochs = 1
    config.loss.class_weights = kind
    train_and_evaluate(config, tmp_path)
    assert bool(counted) == (kind != "none")


def test_profiles_have_the_steps_marked(config, tmp_path):
    config.train.num_epochs = 1
    config.train.profile_steps = (5, 10)
    train_and_evaluate(config, tmp_path)
    (path,) = (tmp_path / "profile").rglob("*.xplane.pb")
    steps = [
        dict(event.stats)["step_num"]
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    ]
    assert sorted(steps) == [4, 8]
