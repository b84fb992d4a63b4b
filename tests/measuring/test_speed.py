"""benchmark: the steps are those of training, host input is seen, PyTorch's twin."""

import itertools
import json
import pathlib
import sys

import jax
import numpy as np
import pytest
from measuring import speed_jax, speed_torch, timing
from measuring.speed import Plan, benchmark_infer, benchmark_train

from configs import default
from deepfer_jax.data import datasets
from deepfer_jax.errors import UserError
from deepfer_jax.export import export_run
from deepfer_jax.runs.workdir import restore_run
from deepfer_jax.training.config import read_recipe
from deepfer_jax.training.train import train_and_evaluate

RUN_KEYS = {
    *("framework", "model", "precision", "batch_size", "image_size"),
    *("faces_per_second", "peak_memory_mb", "peak_memory_of"),
}
TRAIN_KEYS = {"pipeline", "augmented", "steps_per_call", "ms_per_step", "host_input"}
INFER_KEYS = {"exported", "ms_per_call", "ms_per_call_p95"}


def make_config(data_dir):
    """One epoch of a very small network of tiny's family, quick to compile."""
    config = default.get_config()
    config.dataset.name, config.dataset.data_dir = "synthetic_faces/small", data_dir
    config.model.options = {
        "stem_features": 4,
        "stage_features": (4, 8),
        "stage_blocks": (1, 1),
    }
    config.augment.flip = 0.5
    config.optimizer.warmup_epochs = 0.5
    config.train.update({"batch_size": 28, "num_epochs": 1})
    return config


@pytest.fixture
def config(small_data_dir):
    return make_config(small_data_dir)


@pytest.fixture
def plan(config):
    return Plan(config, ["tiny"], ["float32"], seconds=0.01, num_rounds=2)


def test_rounds_alternate_and_turn_round(monkeypatch):
    clock, order = [0.0], []

    def task(name, seconds, faces):
        def run():
            order.append(name)
            clock[0] += seconds
            return faces

        return run

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    tasks = {"a": task("a", 2.0, 10), "b": task("b", 1.0, 10)}
    assert timing.num_calls_in(tasks["a"], 8.3) == 4
    order.clear()
    found = timing.measure(tasks, num_rounds=3, num_calls=2)
    assert "".join(order) == "aabb" + "bbaa" + "aabb"
    assert found["a"].seconds.tolist() == [[2.0, 2.0]] * 3
    np.testing.assert_array_equal(found["b"].rates, 10)


def test_a_ratio_is_the_median_of_pairs():
    ours = timing.Timings(np.array([[10], [10], [10]]), np.array([[1.0], [2.0], [9.0]]))
    theirs = timing.Timings(np.full((3, 1), 10), np.array([[2.0], [2.0], [9.9]]))
    expected = {"ratio": 1.1, "lowest": 1.0, "highest": 2.0, "num_pairs": 3}
    assert timing.compare(ours, theirs) == expected


def test_peak_memory_grows_by_what_is_allocated():
    before = timing.peak_memory()
    assert before["peak_memory_of"] == "process"
    size = int(2 * before["peak_memory_mb"] * 1e6)
    block = np.ones(size, np.uint8)
    assert timing.peak_memory()["peak_memory_mb"] >= block.nbytes / 1e6


@pytest.fixture(scope="module")
def exported(small_data_dir, tmp_path_factory):
    """A folder with a run of one epoch, and its exported model."""
    folder = tmp_path_factory.mktemp("exported")
    train_and_evaluate(make_config(small_data_dir), folder / "run")
    export_run(folder / "run", folder / "model")
    return folder


def test_measured_steps_are_those_of_training(config, exported):
    builder = datasets.load_builder(config.dataset.name, config.dataset.data_dir)
    task = speed_jax.Training(config, "resident", builder)
    task.num_steps = 10  # 280 faces in batches of 28
    assert task() == 280
    expected = restore_run(exported / "run").variables["params"]
    jax.tree.map(np.testing.assert_array_equal, task.state.params, expected)


def test_training_document(plan):
    document = benchmark_train(plan, speed_jax.PIPELINES)
    json.dumps(document)
    assert document["command"] == "train"
    assert document["device"]["platform"] == "cpu"
    assert document["versions"]["torch"] is None
    runs = {run["pipeline"]: run for run in document["runs"]}
    assert list(runs) == ["resident", "tf.data", "fixed"]
    for run in runs.values():
        assert run.keys() == RUN_KEYS | TRAIN_KEYS
        faces = 1e3 * 28 / run["ms_per_step"]
        assert run["faces_per_second"] == pytest.approx(faces, rel=0.01)
        assert run["augmented"]
    # Every step of tf.data trips the check that no step of the others does.
    assert [run["host_input"] for run in runs.values()] == [False, True, False]
    ratios = {row["name"]: row for row in document["comparisons"]}
    assert ratios.keys() == {"resident_over_fixed", "resident_over_tf_data"}
    for row in ratios.values():
        assert row["num_pairs"] == 2
        assert row["met"] == (row["ratio"] >= row["target"])


@pytest.mark.parametrize(
    ("pipeline", "steps_per_call", "expected"),
    [("resident", 2, False), ("tf.data", 1, True)],
)
def test_no_call_of_an_epoch_takes_from_the_host(
    config, pipeline, steps_per_call, expected
):
    config.train.update({"steps_per_call": steps_per_call, "batch_size": 88})
    builder = datasets.load_builder(config.dataset.name, config.dataset.data_dir)
    task = speed_jax.Training(config, pipeline, builder)
    calls = -(-3 // steps_per_call)
    for _ in range(calls):  # compiles
        task.call(*next(task.inputs))
    assert [task.takes_host_input() for _ in range(calls)] == [expected] * calls
    assert task() >= 88  # it still trains
    assert np.isfinite(jax.tree.leaves(task.state.params)[0]).all()


def test_the_fixed_batch_is_the_first_of_the_split(config):
    builder = datasets.load_builder(config.dataset.name, config.dataset.data_dir)
    task = speed_jax.Training(config, "fixed", builder)
    faces = datasets.load_split(builder, "train")
    first, second = itertools.islice(task.inputs, 2)
    for resident, _ in (first, second):
        np.testing.assert_array_equal(resident["image"], faces["image"][:28])
        np.testing.assert_array_equal(resident["label"], faces["label"][:28])


def test_other_sizes_are_noise(config):
    with speed_jax.open_faces(config, 20) as builder:
        faces = datasets.load_split(builder, "train")
    assert faces["image"].shape == (1024, 20, 20, 1)
    assert faces["image"].std() == pytest.approx(256 / 12**0.5, rel=0.01)
    assert np.bincount(faces["label"]).min() >= 1024 // 7


def test_inference_document(plan, exported):
    document = benchmark_infer(plan, [1, 3])
    assert [run["batch_size"] for run in document["runs"]] == [1, 3]
    for run in document["runs"]:
        assert run.keys() == RUN_KEYS | INFER_KEYS
        assert 0 < run["ms_per_call"] <= run["ms_per_call_p95"]
        assert not run["exported"]
    document = benchmark_infer(plan, [2], exported / "model")
    (run,) = document["runs"]
    assert (run["model"], run["precision"], run["exported"]) == (
        "tiny",
        "float32",
        True,
    )


@pytest.mark.parametrize(
    ("changes", "pipelines", "message"),
    [
        ({"models": ["huge"]}, ["resident"], r"--model: expected .*tiny.*'huge'"),
        ({"precisions": ["int8"]}, ["fixed"], r"--precision: .*bfloat16, found 'int8'"),
        ({}, ["disk"], r"--pipeline: .*resident, tf.data, fixed, found 'disk'"),
        ({"image_size": 8}, ["fixed"], r"--image_size: expected 16 or more, found 8"),
        ({"num_rounds": 0}, ["fixed"], r"--rounds: expected 1 or more, found 0"),
    ],
)
def test_what_there_is_not_is_named(plan, changes, pipelines, message):
    with pytest.raises(UserError, match=message):
        benchmark_train(plan._replace(**changes), pipelines)


def test_more_errors_for_people(plan, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--batch_sizes: .*found 0"):
        benchmark_infer(plan, [1, 0])
    with pytest.raises(UserError, match=r"metadata.json is missing"):
        benchmark_infer(plan, [1], tmp_path)
    with pytest.raises(UserError, match=r"--config: .*nowhere.py is missing"):
        read_recipe(tmp_path / "nowhere.py")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="PyTorch is not installed: pip install"):
        benchmark_infer(plan._replace(compare_torch=True), [1])


def test_script_prints_one_document(run_python):
    script = ["scripts/benchmark.py", "infer", "--rounds", 1, "--seconds", 0.001]
    result = run_python(*script, "--batch_sizes", "1,2")
    assert [run["batch_size"] for run in json.loads(result.stdout)["runs"]] == [1, 2]


@pytest.fixture
def torch():
    """PyTorch with what its optimisers import."""
    pytest.importorskip("sympy")
    return pytest.importorskip("torch")


def test_comparison_document(torch, plan, exported):
    plan = plan._replace(compare_torch=True)
    document = benchmark_train(plan, ["resident"])
    assert document["versions"]["torch"] == torch.__version__
    assert [(r["framework"], r["augmented"]) for r in document["runs"]] == [
        ("jax", True),  # as the recipe has it
        ("jax", False),
        ("torch", False),
    ]
    assert all(run.keys() == RUN_KEYS | TRAIN_KEYS for run in document["runs"])
    assert [row["name"] for row in document["comparisons"]] == ["jax_over_torch"]

    document = benchmark_infer(plan, [2], exported / "model")
    assert [run["framework"] for run in document["runs"]] == ["jax", "torch"]
    (row,) = document["comparisons"]
    assert (row["name"], row["target"], row["met"]) == ("jax_over_torch", None, None)


def test_predictions_equal_those_of_pytorch(torch, exported):
    subject = speed_jax.open_inference(exported / "model")
    faces = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1)).astype(np.uint8)
    expected = subject.predict(faces)
    assert np.ptp(expected, axis=0).max() > 1e-3
    predict = speed_torch.create_predict(*subject.load(), (48, 48, 1))
    np.testing.assert_allclose(predict(faces), expected, atol=1e-5)
    network, variables, model, temperature = subject.load()
    model.dtype = "bfloat16"
    low = speed_torch.create_predict(
        network, variables, model, temperature, (48, 48, 1)
    )
    assert 1e-6 < np.abs(low(faces) - expected).max() < 0.02


@pytest.mark.parametrize(("name", "size"), [("sgd", 48), ("adamw", 48), ("sgd", 96)])
def test_a_step_equals_that_of_pytorch(torch, config, name, size):
    if size != 48:
        config.model.name = "dlib_resnet29"
        config.model.options = {
            "stage_features": (8, 16, 32, 32, 32),
            "stage_blocks": (1, 2, 1, 1, 1),
        }
    config.optimizer.update({"name": name, "clip_norm": 0.5, "weight_decay": 0.1})
    config.optimizer.update({"schedule": "constant", "warmup_epochs": 0.0})
    config.loss.label_smoothing = 0.1
    recipe = speed_jax.without_chance(config)
    with speed_jax.open_faces(config, size) as builder:
        ours = speed_jax.Training(recipe, "fixed", builder)
    theirs = speed_torch.Training(recipe, ours.network, ours.variables, ours.batch)
    before = {k: p.detach().clone() for k, p in theirs.net.named_parameters()}
    ours(), theirs()
    stepped = {"params": ours.state.params, "batch_stats": ours.state.batch_stats}
    expected = speed_torch.create_twin(ours.network, (size, size, 1))
    speed_torch.copy_variables(expected, stepped)
    theirs, ours = (dict(net.named_parameters()) for net in (theirs.net, expected))
    # AdamW's first step is the rate times the gradient's sign, which rounding decides
    # where the gradient is nearly 0.
    differ, moved, total = 0, 0, 0
    for path, start in before.items():
        change, other = ours[path] - start, theirs[path] - start
        differ += int((~torch.isclose(change, other, rtol=1e-2, atol=1e-6)).sum())
        moved += int((other != 0).sum())
        total += start.numel()
    assert moved > 0.9 * total
    assert differ <= 0.005 * total


def test_what_a_recipe_freezes_is_not_trained(config):
    """The speed of fine-tuning is that of its first epoch's groups."""
    builder = datasets.load_builder(config.dataset.name, config.dataset.data_dir)
    config.optimizer.groups = (("head/.*", 1.0), (".*", 0.0))
    config.optimizer.warmup_epochs = 0.0
    task = speed_jax.Training(config, "fixed", builder)
    task()
    before, after = task.variables["params"], jax.device_get(task.state.params)
    same = jax.tree.map(np.array_equal, before, after)
    assert not same.pop("head")["kernel"]
    assert all(jax.tree.leaves(same))


def test_a_recipe_takes_an_argument():
    path = pathlib.Path(default.__file__).parent / "fer2013_dlib_finetune.py"
    config = read_recipe(f"{path}:frozen")
    assert config.optimizer.groups[-1] == (".*", 0.0)
