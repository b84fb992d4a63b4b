"""writers: metrics.jsonl holds each step once, also after a resume or a cut."""

import json

import pytest

from deepfer_jax.data import datasets
from deepfer_jax.data.pipeline import TfData
from deepfer_jax.runs.writers import MetricWriter, read_metrics


def steps_of(folder):
    return [line["step"] for line in read_metrics(folder / "metrics.jsonl")]


def test_lines_after_the_restored_step_are_dropped(tmp_path):
    with MetricWriter(tmp_path, 0) as writer:
        for step in (10, 20, 30):
            writer.write(step, "train", {"loss": step / 10})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "train/lo')
    with MetricWriter(tmp_path, 20) as writer:
        writer.write(30, "train", {"loss": 9.0})
    assert steps_of(tmp_path) == [10, 20, 30]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1]) == {"step": 30, "train/loss": 9.0}


def test_tensorboard_gets_the_scalars(tmp_path):
    tf = pytest.importorskip("tensorflow")
    with MetricWriter(tmp_path, 0) as writer:
        writer.write(5, "train", {"loss": 0.25})
    (path,) = tmp_path.glob("events.out.tfevents.*")
    values = {
        value.tag: (event.step, float(tf.make_ndarray(value.tensor)))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert values["train/loss"] == (5, 0.25)


def test_tensorflow_is_kept_off_the_gpus(tmp_path, small_data_dir, monkeypatch):
    """By whatever comes to use it first."""
    tf = pytest.importorskip("tensorflow")
    hidden = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *a: hidden.append(a))
    builder = datasets.load_builder("synthetic_faces/small", small_data_dir)
    for use in (
        lambda: MetricWriter(tmp_path, 0),
        lambda: datasets.load_split(builder, "test"),
        lambda: TfData(builder, "test", 4, 0, 1),
    ):
        hidden.clear()
        use()
        assert hidden == [([], "GPU")]


def test_works_without_tensorflow(tmp_path, run_python):
    code = (
        "import tests.no_tensorflow\n"
        "from deepfer_jax.runs.writers import MetricWriter\n"
        f"with MetricWriter({str(tmp_path)!r}, 0) as writer:\n"
        "    writer.write(1, 'train', {'loss': 2})"
    )
    run_python("-c", code)
    assert steps_of(tmp_path) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
