"""`deepfer`: photographs into lines, tables and pictures; what ships; training."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from deepfer_jax import errors
from deepfer_jax.commands import photos as command
from deepfer_jax.commands.train import find_recipe
from tests import photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A smiling astronaut, a picture without a face, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(photos.photo("astronaut")).save(folder / "a.png")
    Image.fromarray(np.full((90, 120, 3), 99, np.uint8)).save(folder / "b.jpg")
    (folder / "c.jpg").write_bytes(b"no picture")
    return folder


def run(run_python, *arguments, check=True):
    return run_python("-m", "deepfer_jax", *arguments, check=check)


def test_a_line_a_photograph(run_python, folder):
    result = run(run_python, folder, check=False)
    assert result.returncode == 1
    first, second, third = result.stdout.splitlines()
    assert first.startswith(f"{folder}/a.png: happy ")
    assert second == f"{folder}/b.jpg: no face"
    assert "c.jpg: " in third
    assert "not" in third


def test_json_lines(run_python, folder):
    result = run(run_python, "photos", folder / "a.png", folder / "b.jpg", "--json")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["faces"][0]["label"] == "happy"
    assert second["faces"] == []


def test_heat_maps_are_written_as_pictures(folder, tmp_path, capsys):
    """A row a face: the crop, and red on the smiling mouth."""
    why = tmp_path / "why"
    assert command.main([str(folder / "a.png"), "--explain", str(why)]) == 0
    assert f"-> {why}/a.png.jpg" in capsys.readouterr().out
    picture = np.asarray(Image.open(why / "a.png.jpg")).astype(int)
    assert picture.shape == (192, 384, 3)
    red = (picture[:, 192:, 0] - picture[:, 192:, 2]).clip(0)
    assert red[96:].sum() > 2 * red[:96].sum()
    # A face that is cut out already; a picture without faces has none.
    face = tmp_path / "face.png"
    Image.fromarray(photos.photo("astronaut")[60:190, 165:295]).save(face)
    assert command.main([str(face), "--face", "--explain", str(why)]) == 0
    assert (why / "face.png.jpg").exists()
    assert command.main([str(folder / "b.jpg"), "--explain", str(why)]) == 0
    assert not (why / "b.jpg").exists()
    with pytest.raises(errors.UserError, match="would be written twice"):
        command.main([str(face), "--out", str(why), "--explain", str(why)])


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_is_resumed(folder, tmp_path, monkeypatch, capsys):
    table = tmp_path / "faces.csv"
    assert command.main([str(folder), "--csv", str(table)]) == 1
    whole = read(table)
    assert [row["file"][-5:] for row in whole] == ["a.png", "b.jpg", "c.jpg"]
    face, empty, broken = whole
    assert face["label"] == "happy"
    assert 0.5 < float(face["probability"]) <= 1
    assert float(face["right"]) > float(face["left"])
    assert (empty["label"], empty["error"]) == ("", "")
    assert "c.jpg" in broken["error"]

    calls = []
    usual = command.find_faces
    monkeypatch.setattr(
        command, "find_faces", lambda *args: calls.append(args) or usual(*args)
    )
    # Cut off in the second photograph's row: that one is done again, and the third.
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:2]) + lines[2][:20])
    command.main([str(folder), "--csv", str(table)])
    assert len(calls) == 1
    assert read(table) == whole
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(errors.UserError, match="expected a table of this model"):
        command.main([str(folder), "--csv", str(other)])
    capsys.readouterr()


def test_parquet_has_the_same_rows(folder, tmp_path, capsys):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    paths = tmp_path / "faces.csv", tmp_path / "faces.parquet"
    command.main([str(folder), "--csv", str(paths[0])])
    command.main([str(folder), "--parquet", str(paths[1])])
    rows = pyarrow.read_table(paths[1]).to_pylist()
    assert not list(tmp_path.glob("*.part"))
    for row, expected in zip(rows, read(paths[0]), strict=True):
        assert (row["label"] or "") == expected["label"]
        assert (row["error"] or "") == expected["error"]
        if row["label"]:
            assert row["unsure"] is False
            assert row["happy"] == pytest.approx(float(expected["happy"]))
    command.main([str(folder), "--parquet", str(paths[1])])
    assert pyarrow.read_table(paths[1]).to_pylist() == rows
    capsys.readouterr()


def test_models_are_listed(run_python):
    lines = run(run_python, "models").stdout.splitlines()
    assert any(x.startswith("tiny ") and x.endswith("(the default)") for x in lines)
    assert json.loads(run(run_python, "models", "small").stdout)["classes"]


def test_recipes_are_found_by_name(tmp_path, monkeypatch):
    assert find_recipe("fer2013_tiny").endswith("configs/fer2013_tiny.py")
    own = tmp_path / "own.py"
    own.write_text("")
    assert find_recipe(f"{own}:frozen") == f"{own}:frozen"
    with pytest.raises(errors.UserError, match=r"nothing is no file.*fer2013_tiny"):
        find_recipe("nothing")


def test_training_by_name(run_python, small_data_dir, tmp_path):
    fields = {
        "dataset.name": "synthetic_faces/small",
        "dataset.data_dir": small_data_dir,
        "train.num_epochs": 2,
        "optimizer.warmup_epochs": 0.5,
    }
    arguments = [f"--config.{name}={value}" for name, value in fields.items()]
    result = run(
        *(run_python, "train", "--config", "quickstart"),
        *("--workdir", tmp_path / "run", *arguments),
    )
    assert "run complete: 2 epochs" in result.stdout
    run(
        *(run_python, "export", "--workdir", tmp_path / "run"),
        *("--out", tmp_path / "model"),
    )
    assert (tmp_path / "model" / "metadata.json").exists()


def test_help_has_examples(run_python):
    said = run(run_python, "--help").stdout
    assert "deepfer photos/ --csv faces.csv" in said
    for name in ("photos", "video", "demo", "models", "train", "export"):
        assert "deepfer" in run(run_python, name, "--help").stdout


def test_importing_the_package_imports_nothing():
    loaded = "{'jax', 'numpy', 'PIL'} & set(sys.modules)"
    code = f"import sys, deepfer_jax; print(len({loaded}))"
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output.strip() == "0"
