"""Training and evaluation in a process that has no TensorFlow."""

from deepfer_jax.data import datasets
from tests import small_recipe

PROGRAM = """
import runpy, sys
import tests.no_tensorflow
from deepfer_jax.training.train import train_and_evaluate
from tests import small_recipe

_, data, run, dataset = sys.argv
config = small_recipe.get_config()
config.dataset.data_dir = data
config.train.num_epochs = 1
train_and_evaluate(config, run)
sys.argv = ["scripts/evaluate.py", "--workdir", run, "--dataset", dataset]
sys.argv += ["--split", "test", "--data_dir", data]
runpy.run_path(sys.argv[0], run_name="__main__")
assert "tensorflow" not in sys.modules
"""


def test_training_and_evaluation_work_without_tensorflow(run_python, tmp_path):
    data, run = tmp_path / "data", tmp_path / "run"
    dataset = small_recipe.get_config().dataset.name
    result = run_python("-c", PROGRAM, data, run, dataset)
    assert (run / "metrics.jsonl").exists()
    builder = datasets.load_builder(dataset, data)
    assert builder.info.file_format.value == "array_record"
    assert "of 140 faces" in result.stdout
