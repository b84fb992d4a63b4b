"""From a run to evaluation, export and predictions, by the commands users type."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from deepfer_jax.data import datasets
from deepfer_jax.data.audit import near_copies_of
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.evaluation.calibration import scale
from deepfer_jax.evaluation.corruptions import CORRUPTIONS
from deepfer_jax.inference import Predictor
from deepfer_jax.runs.trained import load_model
from deepfer_jax.runs.workdir import restore_run
from deepfer_jax.training.train import train_and_evaluate
from tests import small_recipe

DATASET = "synthetic_faces/small"


@pytest.fixture(scope="module")
def workdir(small_data_dir, tmp_path_factory):
    config = small_recipe.get_config()
    config.dataset.data_dir = small_data_dir
    config.train.ema_decay = 0.9
    folder = tmp_path_factory.mktemp("run")
    train_and_evaluate(config, folder)
    return folder


@pytest.fixture(scope="module")
def num_parameters(workdir):
    params = restore_run(workdir).variables["params"]
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.fixture(scope="module")
def model(workdir, num_parameters, run_python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    out = run_python("scripts/export.py", "--workdir", workdir, "--out", folder)
    assert f"{num_parameters:,} parameters exported" in out.stdout
    return folder


@pytest.fixture(scope="module")
def evaluate(run_python, small_data_dir):
    def run(flag, folder, *more):
        return run_python(
            "scripts/evaluate.py", flag, folder, "--dataset", DATASET,
            "--split", "test", "--data_dir", small_data_dir, *more,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def evaluated(evaluate, workdir):
    out = evaluate("--workdir", workdir, "--batch_size", 37).stdout
    folder = workdir / "eval"
    result = json.loads((folder / "synthetic_faces_small_test_none.json").read_text())
    return out, result, np.load(folder / "synthetic_faces_small_test_none.npz")


@pytest.fixture(scope="module")
def model_evaluated(evaluate, model):
    """The folder of the exported model's evaluations, and what the last one said."""
    evaluate("--model", model, "--batch_size", 140)
    out = evaluate("--model", model, "--corruptions", "--tta", "flip").stdout
    return model / "eval", out


def test_evaluation_writes_every_number(evaluated):
    out, result, arrays = evaluated
    assert set(result) >= {
        "n", "accuracy", "accuracy_ci95", "macro_f1", "balanced_accuracy", "nll", "ece",
        "per_class", "confusion_matrix",
    }  # fmt: skip
    assert result["n"] == 140
    assert set(result["per_class"]) == set(EMOTIONS)
    predicted = arrays["probabilities"].argmax(1)
    assert result["accuracy"] == pytest.approx((predicted == arrays["label"]).mean())
    low, high = result["accuracy_ci95"]
    assert low < result["accuracy"] < high
    assert f"{result['accuracy']:.2%}" in out
    np.testing.assert_allclose(arrays["probabilities"].sum(1), 1, rtol=1e-5)
    assert arrays["id"][0] == "test_00000"


def test_evaluation_does_not_depend_on_the_batch_size(evaluated, model_evaluated):
    _, result, arrays = evaluated
    folder, _ = model_evaluated
    again = json.loads((folder / "synthetic_faces_small_test_none.json").read_text())
    assert again["confusion_matrix"] == result["confusion_matrix"]
    assert again["temperature"] != result["temperature"] == 1
    probabilities = np.load(folder / "synthetic_faces_small_test_none.npz")[
        "probabilities"
    ]
    expected = scale(arrays["probabilities"], again["temperature"])
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_predictor_equals_the_evaluation_in_a_process_without_training_libraries(
    evaluated, model, small_data_dir, run_python, tmp_path
):
    builder = datasets.load_builder(DATASET, small_data_dir)
    faces = datasets.load_split(builder, "test")["image"]
    np.save(tmp_path / "faces.npy", faces)
    run_python(
        "-c",
        "import sys\n"
        "for name in ('flax', 'tensorflow', 'tensorflow_datasets', 'orbax', 'optax',"
        " 'clu', 'dm_pix'): sys.modules[name] = None\n"
        "import numpy as np\n"
        "from deepfer_jax.inference import Predictor\n"
        f"faces = np.load({str(tmp_path / 'faces.npy')!r})\n"
        f"out = Predictor({str(model)!r}).predict(faces)\n"
        f"np.save({str(tmp_path / 'out.npy')!r}, out)",
    )
    temperature = Predictor(model).metadata["calibration"]["temperature"]
    expected = scale(evaluated[2]["probabilities"], temperature)
    assert np.abs(np.load(tmp_path / "out.npy") - expected).max() < 1e-5


def test_metadata_and_parameters_of_the_export(workdir, model, num_parameters):
    metadata = json.loads((model / "metadata.json").read_text())
    assert metadata["classes"] == list(EMOTIONS)
    assert metadata["num_parameters"] == num_parameters
    assert metadata["input"]["shape"] == [48, 48, 1]
    assert metadata["training_data"]["name"] == DATASET
    assert metadata["metrics"]["validation"]["accuracy"] > 0
    assert set(metadata["versions"]) >= {"jax", "flax", "deepfer_jax"}
    variables, _ = load_model(model)
    trained = restore_run(workdir).variables
    kernel = trained["params"]["stage2"]["block1"]["conv1"]["kernel"]
    np.testing.assert_array_equal(
        variables["params"]["stage2"]["block1"]["conv1"]["kernel"], kernel
    )
    platforms = Predictor(model)
    assert platforms.classes == EMOTIONS


def test_calibration_is_of_the_validation_split(workdir, model, small_data_dir):
    found = json.loads((model / "metadata.json").read_text())["calibration"]
    assert found == json.loads((workdir / "calibration.json").read_text())
    assert (found["split"], found["n"]) == ("validation", 140)
    faces = datasets.load_split(
        datasets.load_builder(DATASET, small_data_dir), "validation"
    )
    predictions = Predictor(model).classify(faces["image"])
    sure = np.array([not p.unsure for p in predictions])
    # The threshold is one face's probability, which another program rounds otherwise.
    assert sure.mean() == pytest.approx(found["coverage"], abs=1.01 / 140)
    labels = [EMOTIONS.index(p.label) for p in predictions]
    if sure.any():
        assert (labels == faces["label"])[sure].mean() >= found["target_accuracy"]
    assert all(p.probability == p.probabilities.max() for p in predictions)


def test_without_its_data_a_run_is_exported_uncalibrated(workdir, run_python, tmp_path):
    shutil.copytree(workdir, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["dataset"]["name"] = "fer2013"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    command = ["scripts/export.py", "--workdir", tmp_path / "run", "--out", tmp_path]
    failed = run_python(*command, check=False)
    assert failed.returncode == 1
    assert "--uncalibrated" in failed.stderr
    run_python(*command, "--uncalibrated")
    predictor = Predictor(tmp_path)
    assert predictor.metadata["calibration"] is None
    face = np.zeros((48, 48), np.uint8)
    assert predictor.classify([face])[0].unsure is None


def test_faces_seen_in_training_can_be_left_out(evaluate, model, small_data_dir):
    out = evaluate("--model", model, "--unseen", "train").stdout
    folder = model / "eval"
    whole = json.loads((folder / "synthetic_faces_small_test_none.json").read_text())
    path = folder / "synthetic_faces_small_test_none_unseen.json"
    unseen = json.loads(path.read_text())
    builder = datasets.load_builder(DATASET, small_data_dir)
    seen = near_copies_of(builder, "test", "train")
    assert unseen["left_out"] == seen.sum() == whole["n"] - unseen["n"]
    assert str(path) in out
    arrays = np.load(folder / "synthetic_faces_small_test_none.npz")
    right = (arrays["probabilities"].argmax(1) == arrays["label"])[~seen]
    assert unseen["accuracy"] == pytest.approx(right.mean())


def test_corruptions(model_evaluated):
    folder, out = model_evaluated
    path = folder / "synthetic_faces_small_test_corruptions.json"
    result = json.loads(path.read_text())
    clean = json.loads((folder / "synthetic_faces_small_test_none.json").read_text())
    assert result["clean_accuracy"] == clean["accuracy"]
    assert set(result["accuracy"]) == set(CORRUPTIONS)
    means = [np.mean(row) for row in result["accuracy"].values()]
    assert all(len(row) == 5 for row in result["accuracy"].values())
    assert result["mean_corruption_accuracy"] == pytest.approx(np.mean(means))
    assert f"{np.mean(means):.1%}" in out


def test_model_card_is_filled_from_the_files(
    workdir, model, model_evaluated, run_python, tmp_path
):
    shutil.copy(workdir / "config.json", tmp_path)
    for path in model_evaluated[0].glob("*.json"):
        shutil.copy(path, tmp_path)
    arguments = ("--model", model, "--results", tmp_path, "--out", tmp_path / "card.md")
    run_python("scripts/model_card.py", *arguments)
    text = (tmp_path / "card.md").read_text()
    result = json.loads((tmp_path / "synthetic_faces_small_test_none.json").read_text())
    assert f"| one view | 140 | {result['accuracy']:.2%} |" in text
    assert text.count("| flip |") == 1
    for name, row in result["per_class"].items():
        assert f"| {name} | 20 | {row['recall']:.1%} |" in text
    assert "prohibited in the European Union" in text
    assert "| low resolution |" in text
    (tmp_path / "synthetic_faces_small_test_corruptions.json").unlink()
    failed = run_python("scripts/model_card.py", *arguments, check=False)
    assert "synthetic_faces_small_test_corruptions.json is missing" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_comparing_with_a_kept_evaluation(evaluated, workdir, run_python, tmp_path):
    path = workdir / "eval" / "synthetic_faces_small_test_none.json"
    out = run_python("scripts/compare.py", path, path).stdout
    assert "\nreproduced" in out
    result = evaluated[1]
    above = result["accuracy_ci95"][1] + 0.1
    for changes, code, message in (
        ({"accuracy_ci95": [above, above]}, 1, "NOT reproduced"),
        ({"split": "validation"}, 1, "split: 'test' in"),
    ):
        (tmp_path / "kept.json").write_text(json.dumps(result | changes))
        again = run_python(
            "scripts/compare.py", path, tmp_path / "kept.json", check=False
        )
        assert again.returncode == code
        assert message in again.stdout + again.stderr


def test_exporting_again_from_the_parameters_gives_the_same_model(
    model, run_python, tmp_path
):
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "model.jax_export").write_bytes(b"of another jax")
    run_python("scripts/export.py", "--model", broken, "--out", tmp_path / "again")
    faces = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1)).astype(np.uint8)
    np.testing.assert_allclose(
        Predictor(tmp_path / "again").predict(faces),
        Predictor(model).predict(faces),
        atol=1e-6,
    )


def test_evaluation_with_augmentation(evaluate, workdir, model_evaluated):
    out = evaluate("--workdir", workdir, "--tta", "ten_crop").stdout
    for tta, where, text in (
        ("ten_crop", workdir / "eval", out),
        ("flip", *model_evaluated),
    ):
        assert f"test-time augmentation {tta}" in text
        assert (where / f"synthetic_faces_small_test_{tta}.json").exists()


def test_predict_prints_a_line_a_file_and_goes_on_after_errors(
    model, run_python, tmp_path
):
    rng = np.random.default_rng(0)
    face = rng.integers(0, 256, (48, 48)).astype(np.uint8)
    folder = tmp_path / "faces"
    folder.mkdir()
    Image.fromarray(face).save(folder / "a.png")
    Image.fromarray(rng.integers(0, 256, (90, 70, 3)).astype(np.uint8)).save(
        folder / "b.jpg"
    )
    Image.fromarray(face).convert("P").save(folder / "c.gif")
    (folder / "d.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("left out")
    missing = tmp_path / "missing.png"
    result = run_python(
        *("scripts/predict.py", "--face", "--model", model, folder, missing),
        check=False,
    )
    assert result.returncode == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["file"].rsplit("/")[-1] for line in lines] == [
        "a.png", "b.jpg", "c.gif", "d.png", "missing.png",
    ]  # fmt: skip
    assert "error" in lines[3]
    assert "missing.png" in lines[4]["error"]
    assert "Traceback" not in result.stderr
    expected = Predictor(model).predict([face])[0]
    for line in (lines[0], lines[2]):
        assert line["label"] == EMOTIONS[expected.argmax()]
        assert line["probability"] == pytest.approx(expected.max(), abs=1e-4)
        assert list(line["probabilities"]) == list(EMOTIONS)
