"""configs/finetune_tiny.py: a network on faces of one's own, from one that ships."""

import json

import numpy as np
from PIL import Image

from deepfer_jax.data.synthetic.builder import draw_face


def test_a_run_starts_from_a_model_on_ones_own_classes(tmp_path, run_python):
    """By the commands of the README: prepare, fine-tune, evaluate, export, predict."""
    for name, emotion in (("smiling", "happy"), ("gloomy", "sad")):
        (tmp_path / "in" / name).mkdir(parents=True)
        for i in range(20):
            face = draw_face(np.random.default_rng(i), emotion)
            Image.fromarray(face).resize((90, 90)).save(tmp_path / f"in/{name}/{i}.png")
    data = ("--data_dir", tmp_path / "data")
    run_python(
        "scripts/prepare_data.py", "--dataset", "image_folder/mine", "--manual_dir",
        tmp_path / "in", "--unknown_classes", "keep", "--validation_fraction", 0.3,
        *data,
    )  # fmt: skip
    run = run_python(
        "-m", "deepfer_jax.main", "--config", "configs/finetune_tiny.py", "--workdir",
        tmp_path / "run", f"--config.dataset.data_dir={tmp_path / 'data'}",
        "--config.train.batch_size=14", "--config.train.num_epochs=8",
        "--config.optimizer.learning_rate=3e-3",
    )  # fmt: skip
    assert "with a new head" in run.stderr + run.stdout
    run_python(
        "scripts/export.py", "--workdir", tmp_path / "run", "--out", tmp_path / "m"
    )
    metadata = json.loads((tmp_path / "m" / "metadata.json").read_text())
    assert metadata["classes"] == ["gloomy", "smiling"]
    assert metadata["metrics"]["validation"]["accuracy"] > 0.7
    out = run_python(
        "scripts/evaluate.py", "--model", tmp_path / "m", "--dataset",
        "image_folder/mine", "--split", "validation", *data,
    ).stdout  # fmt: skip
    assert "gloomy" in out
