"""What users do wrong ends in one line that says so, in every script."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from deepfer_jax.inference import DEFAULT_MODEL

ROOT = pathlib.Path(__file__).parents[1]


def test_mistakes_end_in_one_line(run_python, tmp_path, small_data_dir):
    def expect(message, script, *arguments):
        result = run_python(f"scripts/{script}.py", *arguments, check=False)
        assert result.returncode == 1
        assert message in result.stderr
        assert "Traceback" not in result.stderr

    expect("metadata.json is missing", "predict", "--model", tmp_path, "x.png")
    expect("config.json is missing", "export", "--workdir", tmp_path, "--out", "x")
    expect("is no exported model", "export", "--model", tmp_path, "--out", "x")
    expect(
        "scripts/prepare_data.py --dataset fer2013",
        *("evaluate", "--model", DEFAULT_MODEL, "--dataset", "fer2013"),
        *("--split", "public_test", "--data_dir", small_data_dir),
    )


def test_a_missing_extra_is_named_and_help_works_without_it(run_python):
    block = (
        "import sys, runpy; sys.modules['tensorflow_datasets'] = None\n"
        "sys.argv = ['scripts/evaluate.py', *sys.argv[1:]]\n"
        "runpy.run_path('scripts/evaluate.py', run_name='__main__')"
    )
    result = run_python("-c", block, "--model", "tiny", check=False)
    assert result.returncode == 1
    assert "tensorflow_datasets is not installed" in result.stderr
    assert 'pip install -e ".[train]"' in result.stderr
    assert "Traceback" not in result.stderr
    result = run_python("-c", block, "--help")
    assert "Evaluates a trained run" in result.stdout


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    for name in ("a.png", "one/b.jpg", "two/b.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(folder / name)
    return folder


def predict(run_python, *arguments, **options):
    return run_python("scripts/predict.py", *arguments, check=False, **options)


def test_predict_never_writes_over_what_it_reads(run_python, pictures):
    before = (pictures / "one/b.jpg").read_bytes()
    result = predict(run_python, pictures, "--out", pictures)
    assert result.returncode == 1
    assert "is read and would be overwritten" in result.stderr
    assert (pictures / "one/b.jpg").read_bytes() == before
    (pictures / "a.png").rename(pictures / "b.png")
    (pictures / "b.png.jpg").write_bytes(before)
    result = predict(run_python, pictures, "--out", pictures.parent / "out")
    assert "b.png.jpg would be written twice" in result.stderr
    up = pictures / "one" / ".." / "two" / "b.png"
    out = pictures.parent / "up"
    result = predict(run_python, pictures / "one/b.jpg", up, "--out", out)
    assert result.returncode == 0
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.jpg")) == [
        "one/b.jpg",
        "two/b.png.jpg",
    ]


def test_pipes_and_empty_folders_are_errors(run_python, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    result = predict(run_python, tmp_path / "pipe.jpg")
    assert "pipe.jpg: not a file" in result.stdout
    (tmp_path / "empty").mkdir()
    result = predict(run_python, tmp_path / "empty")
    assert "empty: no image is there" in result.stderr


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("{} | head -1", 0, ""),
        ("{} > /dev/full", 1, "error: standard output: No space left on device"),
    ],
)
def test_output_that_nobody_takes(pictures, command, code, said):
    run = f"{sys.executable} scripts/predict.py {pictures} {pictures} {pictures}"
    result = subprocess.run(
        command.format(run), shell=True, capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == code
    assert result.stderr.strip() == said


def interrupt(process):
    """Presses Ctrl-C, again if it was lost on a library that was being imported."""
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=20)[1]
    process.kill()
    raise AssertionError("it goes on after five times Ctrl-C")


def test_ctrl_c_is_one_line_and_130(pictures):
    for seconds in (0.3, 1.0):
        command = [sys.executable, "scripts/predict.py", *([pictures] * 2000)]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT
        )
        time.sleep(seconds)
        said = interrupt(process)
        assert b"Traceback" not in said
        assert process.returncode == 130


def test_ctrl_c_while_garbage_is_collected(run_python):
    program = (
        "import gc, os, signal, time\n"
        "from deepfer_jax import errors\n"
        "def collected(*_):\n"
        "    gc.callbacks.remove(collected)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "with errors.reported():\n"
        "    gc.callbacks.append(collected)\n"
        "    gc.collect()\n"
        "    time.sleep(60)\n"
    )
    start = time.monotonic()
    result = run_python("-c", program, check=False)
    assert time.monotonic() - start < 30  # what it waited for was interrupted
    assert (result.returncode, result.stderr) == (130, "interrupted\n")


def test_the_nearest_field_is_named(run_python, tmp_path):
    def run(*fields):
        command = ("--config", "configs/quickstart.py", "--workdir", tmp_path)
        result = run_python("-m", "deepfer_jax.main", *command, *fields, check=False)
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        return result.stderr

    said = run("--config.train.num_epoch=3")
    assert "--config.train.num_epoch: " in said
    assert "do you mean num_epochs?" in said
    assert "do you mean train?" in run("--config.trian.num_epochs=3")
    said = run("--config.model.options.stochastic_dept=0.1")
    assert "found 'stochastic_dept'" in said


def test_importing_faces_changes_nothing_in_the_host_program(run_python):
    program = (
        "import os, signal, logging\n"
        "before = dict(os.environ), logging.getLogger().handlers[:]\n"
        "import deepfer_jax.faces.analyzer, deepfer_jax.faces.photos\n"
        "import deepfer_jax.data.images, deepfer_jax.inference\n"
        "assert before == (dict(os.environ), logging.getLogger().handlers)"
    )
    run_python("-c", program)
