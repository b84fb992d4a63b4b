"""docs/examples: each program, on small inputs."""

import numpy as np
import pytest
from measuring.running import running_server
from PIL import Image

from tests import photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    (folder / "photos").mkdir()
    Image.fromarray(photos.photo("astronaut")).save(folder / "photos" / "a.jpg")
    np.save(folder / "faces.npy", np.full((3, 48, 48), 99, np.uint8))
    return folder


def test_happiest(run_python, folder):
    out = folder / "happiest.png"
    said = run_python("docs/examples/happiest.py", folder / "photos", out).stdout
    assert said.startswith(f"{folder}/photos/a.jpg: happy 9")
    assert 60 < Image.open(out).width < 200


def test_moods(run_python, folder):
    """A folder is a video too, of 25 frames a second."""
    said = run_python("docs/examples/moods.py", folder / "photos").stdout
    assert said == "face 1: happy 0.0 s\n"


def test_cutouts(run_python, folder):
    out = folder / "probabilities.npy"
    said = run_python("docs/examples/cutouts.py", folder / "faces.npy", out).stdout
    assert len(said.splitlines()) == 7
    assert np.load(out).shape == (3, 7)


def test_client(run_python, folder):
    with running_server() as (address, _):
        arguments = (f"http://{address}", folder / "photos" / "a.jpg")
        said = run_python("docs/examples/client.py", *arguments).stdout
    assert said.startswith("happy 9")
