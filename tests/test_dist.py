"""The wheel: what it holds, and that it works where there is no clone."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest
from PIL import Image

from tests import photos

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that holds the package as pip unpacks it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)
    return folder


def run(installed, cwd, *arguments):
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_holds_what_is_used_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "deepfer_jax/py.typed",
        "deepfer_jax/configs/fer2013_tiny.py",
        "deepfer_jax/assets/small/params.safetensors",
        "deepfer_jax/demo/page/samples/astronaut.jpg",
        "deepfer_jax/data/synthetic/drawing.py",
    ):
        assert name in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"deepfer_jax"}
    assert not [name for name in names if "measuring" in name or "test" in name]
    assert wheel.stat().st_size < 20e6
    (points,) = (name for name in names if name.endswith("entry_points.txt"))
    text = zipfile.ZipFile(wheel).read(points).decode()
    assert "deepfer = deepfer_jax.cli:main" in text


def test_a_photograph_is_read_without_the_clone(installed, tmp_path):
    Image.fromarray(photos.photo("astronaut")).save(tmp_path / "photo.jpg")
    code = "import deepfer_jax; print(deepfer_jax.__file__)"
    assert str(installed) in run(installed, tmp_path, "-c", code)
    said = run(installed, tmp_path, "-m", "deepfer_jax", "photo.jpg")
    assert said.startswith("photo.jpg: happy ")


def test_recipes_that_ship_train_without_the_clone(installed, small_data_dir, tmp_path):
    fields = {
        "dataset.name": "synthetic_faces/small",
        "dataset.data_dir": small_data_dir,
        "train.num_epochs": 1,
        "optimizer.warmup_epochs": 0.5,
    }
    arguments = [f"--config.{name}={value}" for name, value in fields.items()]
    command = ("-m", "deepfer_jax", "train", "--config", "quickstart_tf_data")
    said = run(installed, tmp_path, *command, "--workdir", "run", *arguments)
    assert "run complete: 1 epochs" in said
