"""Training and evaluation in a process that has no TensorFlow."""

from deepfer_jax.data import datasets

DATASET = "synthetic_faces/small"


def test_training_and_evaluation_work_without_tensorflow(run_python, tmp_path):
    run_python(
        "-c",
        "import sys, tests.no_tensorflow\n"
        "from configs import default\n"
        "from deepfer_jax.train import train_and_evaluate\n"
        "config = default.get_config()\n"
        f"config.dataset.name = {DATASET!r}\n"
        f"config.dataset.data_dir = {str(tmp_path / 'data')!r}\n"
        "config.train.num_epochs = 1\n"
        "config.train.batch_size = 28\n"
        "config.optimizer.warmup_epochs = 0.5\n"
        f"train_and_evaluate(config, {str(tmp_path / 'run')!r})\n"
        "assert 'tensorflow' not in sys.modules",
    )
    assert (tmp_path / "run" / "metrics.jsonl").exists()
    builder = datasets.load_builder(DATASET, tmp_path / "data")
    assert builder.info.file_format.value == "array_record"
    result = run_python(
        "-c",
        "import sys, runpy, tests.no_tensorflow\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')",
        *("scripts/evaluate.py", "--workdir", tmp_path / "run", "--dataset", DATASET),
        *("--split", "test", "--data_dir", tmp_path / "data"),
    )
    assert "of 140 faces" in result.stdout
