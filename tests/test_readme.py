"""README.md: its commands run, in order, on a small csv in the place of FER2013."""

import json
import pathlib
import re
import shlex
import subprocess

import numpy as np
import pytest
from measuring.soak import find_failures
from PIL import Image

from tests import photos

ROOT = pathlib.Path(__file__).parents[1]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for line in "".join(BLOCKS).splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder like the repository's, with downloads/fer2013.csv and faces/."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("configs", "deepfer_jax", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    rng = np.random.default_rng(0)
    (folder / "downloads").mkdir()
    with (folder / "downloads" / "fer2013.csv").open("w") as file:
        print("emotion,pixels,Usage", file=file)
        for usage, num in (("Training", 140), ("PublicTest", 70)):
            for i in range(num):
                pixels = " ".join(map(str, rng.integers(0, 256, 48 * 48)))
                print(f"{i % 7},{pixels},{usage}", file=file)
    for name in ("happy", "sad"):
        (folder / "my_faces" / name).mkdir(parents=True)
        for i in range(20):
            face = rng.integers(0, 256, (60, 60, 3)).astype(np.uint8)
            Image.fromarray(face).save(folder / "my_faces" / name / f"{i}.png")
    (folder / "faces").mkdir()
    face = rng.integers(0, 256, (48, 48)).astype(np.uint8)
    Image.fromarray(face).save(folder / "faces" / "a.png")
    (folder / "photos").mkdir()
    astronaut = Image.fromarray(photos.photo("astronaut"))
    astronaut.save(folder / "photos" / "a.png")
    write_video(folder / "party.mp4", np.asarray(astronaut))
    return folder


def test_every_command_runs_in_order(folder, run_python):
    assert COMMANDS[:2] == ["make train", "make test"]  # .ci/run runs these
    commands = [command for command in COMMANDS[2:] if command != "make demo"]
    assert len(commands) == len(COMMANDS) - 3  # tests/test_server.py runs the page
    for command in commands:
        arguments = shlex.split(command)
        assert arguments[0] == "python"
        if "deepfer_jax.main" in arguments:
            arguments.append("--config.train.num_epochs=3")
        if "realtime" in arguments:
            arguments += ["--calls", "3", "--cores", "1"]
        elif "scripts/benchmark.py" in arguments:
            arguments += ["--seconds", "0.01", "--rounds", "1"]
        if "configs/finetune_tiny.py" in arguments:
            arguments.append("--config.train.batch_size=16")
        run_python(*arguments[1:], cwd=folder)
    assert (folder / "augmented.png").exists()
    assert (folder / "annotated" / "a.png.jpg").exists()
    assert (folder / "annotated.mp4").exists()
    assert "happy" in (folder / "faces.csv").read_text()
    assert (folder / "data/audit/fer2013_1.0.0.csv").exists()
    assert (folder / "runs/tiny/report.html").exists()
    assert (folder / "runs/tiny/eval/fer2013_public_test_ten_crop.json").exists()


def write_video(path, frame, num=10):
    import cv2

    size = frame.shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, size)
    for _ in range(num):
        writer.write(frame[..., ::-1].copy())
    writer.release()


def test_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_reproducing_calls_what_there_is():
    command = ["make", "--dry-run", "reproduce", "MODEL=tiny"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    named = re.findall(r"(?:scripts|configs|results)/\S+", text)
    assert len(named) >= 5
    for path in named:
        assert (ROOT / path).exists(), path


def test_the_table_of_fine_tuning_says_what_the_files_say():
    text = (ROOT / "README.md").read_text()
    folders = sorted((ROOT / "results" / "fer2013_dlib").iterdir())
    assert len(folders) == 5
    for folder in folders:
        kept = json.loads((folder / "fer2013_public_test_none.json").read_text())
        (row,) = re.findall(rf"^\| `{folder.name}` \|.*$", text, re.MULTILINE)
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        low, high = (100 * x for x in kept["accuracy_ci95"])
        assert cells[2] == f"{kept['accuracy']:.2%}".replace("%", " %")
        assert cells[3] == f"{low:.2f} to {high:.2f}"
        assert cells[4] == f"{kept['macro_f1']:.2%}".replace("%", " %")


def test_the_table_of_real_time_says_what_the_file_says():
    text = (ROOT / "README.md").read_text()
    kept = json.loads((ROOT / "results" / "benchmark_cpu_realtime.json").read_text())
    for name, runs in (("deepfer_jax", kept["runs"]), ("fer", kept["fer"]["runs"])):
        (row,) = re.findall(rf"^\| `{name}` \| [\d.]+ ms .*$", text, re.MULTILINE)
        expected = [
            next(
                run["whole"]["p50_ms"]
                for run in runs
                if (run["cores"], run["faces"]) == which
            )
            for which in ((2, 1), (2, 4), (2, 16), (1, 1))
        ]
        found = [float(x) for x in re.findall(r"([\d.]+) ms", row)]
        np.testing.assert_allclose(found, expected, atol=0.05)
    assert f"{kept['video']['frames_per_second']:.0f} frames a second" in text
    first, second, fer = (
        kept["start_up"][name]["total_s"] for name in ("first", "second", "fer")
    )
    text = " ".join(text.split())
    assert f"first answer after {second:.1f} s, the very first {first:.1f} s" in text
    assert f"(`fer` {fer:.1f} s" in text


def test_what_is_said_of_detectors_and_of_the_soak_is_what_the_files_say():
    text = " ".join((ROOT / "README.md").read_text().split())
    kept = json.loads((ROOT / "results" / "detectors.json").read_text())
    short, full = kept["recall"]
    assert f"finds {short['width']['100']:.0%} of".replace("%", " %") in text
    assert f"finds {full['width']['40']:.0%} of faces 40".replace("%", " %") in text
    photos = json.loads((ROOT / "results" / "photos.json").read_text())
    tiny = {row["detector"]: row for row in photos if row["model"] == "tiny"}
    assert f"of {tiny['auto']['faces']} faces in the 54" in text
    assert f"photographs it finds {tiny['auto']['found']}, and one that" in text
    assert f"`full` finds {tiny['full']['found']} and none" in text
    assert f"`short` {tiny['short']['found']} and three" in text
    assert [tiny[name]["false"] for name in ("auto", "full", "short")] == [1, 0, 3]
    assert full["frame_ms"] / short["frame_ms"] == pytest.approx(2.5, abs=0.1)
    litert = kept["litert"]["short"]
    assert f"{litert['litert_ms']:.1f} against {litert['network_ms']:.1f} ms" in text
    soak = json.loads((ROOT / "results" / "soak.json").read_text())
    rate = soak["video"]["frames_per_second"]
    assert f"reads a file of 10,000 at {rate:.0f} (" in text
    # README says so too; once it is measured, both should say the numbers.
    assert list(find_failures(soak)) == ["attacked: not measured"]
    assert "beside the attackers has not been measured" in text
    assert (soak["clients"]["clients"], soak["clients"]["seconds"]) == (16, 600)
    assert soak["video"]["frames"] == 10_000
    for part in soak["bad_inputs"].values():
        assert part["refused"] + part["read"] == 10_000
