"""What `make dist` makes: what it holds, and that it works where there is no clone."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest
from PIL import Image

from tests import photos

ROOT = pathlib.Path(__file__).parents[1]
# By which the clone would be found.
ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The source, and the wheel that is built of it alone."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder]
    subprocess.run([*command, ROOT], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh environment with the wheel; what it needs is this environment's."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    command = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    command += ["install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=ALONE)
    (site,) = folder.glob("lib/python*/site-packages")
    # A path in such a file: what is installed there to be edited is not followed.
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(installed, cwd, program, *arguments):
    result = subprocess.run(
        [installed / "bin" / program, *arguments],
        cwd=cwd,
        env=ALONE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_may_be_published(dist):
    files = sorted(dist.iterdir())
    assert [path.suffix for path in files] == [".whl", ".gz"]
    command = [sys.executable, "-m", "twine", "check", "--strict", *files]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout
    assert said.stdout.count("PASSED") == 2


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
    assert str(installed) in run(installed, tmp_path, "python", "-c", code)
    said = run(installed, tmp_path, "deepfer", "photo.jpg")
    assert said.startswith("photo.jpg: happy ")


def test_recipes_that_ship_train_without_the_clone(installed, small_data_dir, tmp_path):
    fields = {
        "dataset.name": "synthetic_faces/small",
        "dataset.data_dir": small_data_dir,
        "train.num_epochs": 1,
        "optimizer.warmup_epochs": 0.5,
    }
    arguments = [f"--config.{name}={value}" for name, value in fields.items()]
    command = ("deepfer", "train", "--config", "quickstart_tf_data")
    said = run(installed, tmp_path, *command, "--workdir", "run", *arguments)
    assert "run complete: 1 epochs" in said
