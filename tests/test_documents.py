"""README.md and docs/: commands and code run, on a csv in the place of FER2013."""

import json
import pathlib
import re
import shlex
import subprocess

import numpy as np
import pytest
from measuring import hosts
from measuring.soak import find_failures
from PIL import Image

from tests import photos

ROOT = pathlib.Path(__file__).parents[1]
# In the order of their commands; one that was run already is not run again.
PAGES = (
    "README.md",
    "docs/training.md",
    "docs/realtime.md",
    "docs/phones.md",
    "docs/bulk.md",
    "docs/tutorials/finetune.md",
    "docs/tutorials/network.md",
    "docs/tutorials/photos.md",
)
# What .ci/run, tests/demo and a test below run.
ELSEWHERE = {"make train", "make test", "make lint", "make docs", "make web"}
ELSEWHERE |= {"deepfer demo"}
# What stands before code that shows a part.
BEFORE = {
    "docs/realtime.md": "import numpy as np\nfrom PIL import Image\n"
    "frames = np.asarray(Image.open('photos/a.png').convert('RGB'))[None]\n"
    "cutouts = np.zeros((2, 48, 48), np.uint8)\n",
    "docs/backbones.md": "from configs import default\nconfig = default.get_config()\n",
}
IS_FILE = {"docs/tutorials/network.md": "my_network.py"}
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def commands_of(page):
    lines = "".join(blocks(page, "bash")).splitlines()
    return [line.split("#")[0].strip() for line in lines]


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


@pytest.fixture(scope="module")
def after_commands(folder, run_python):
    """The folder in which every command of every page was run."""
    done = set(ELSEWHERE)
    for page in PAGES:
        if page in IS_FILE:
            (folder / IS_FILE[page]).write_text(blocks(page, "python")[0])
        for command in commands_of(page):
            if command not in done:
                done.add(command)
                run_python(*quickly(command), cwd=folder)
    return folder


def quickly(command):
    """The arguments of Python, with what makes the command short."""
    arguments = shlex.split(command)
    if arguments[0] == "deepfer":
        return ["-m", "deepfer_jax", *arguments[1:]]
    assert arguments[0] == "python", command
    if "deepfer_jax.main" in arguments:
        arguments.append("--config.train.num_epochs=3")
    if "realtime" in arguments:
        arguments += ["--calls", "3", "--cores", "1"]
    elif "scripts/benchmark.py" in arguments:
        arguments += ["--seconds", "0.01", "--rounds", "1"]
    if "configs/finetune_tiny.py" in arguments:
        arguments.append("--config.train.batch_size=16")
    return arguments[1:]


def test_every_command_runs_in_order(after_commands):
    folder = after_commands
    assert (folder / "augmented.png").exists()
    assert (folder / "annotated" / "a.png.jpg").exists()
    assert (folder / "annotated.mp4").exists()
    assert "happy" in (folder / "faces.csv").read_text()
    assert (folder / "data/audit/fer2013_1.0.0.csv").exists()
    assert (folder / "runs/tiny/report.html").exists()
    assert (folder / "runs/tiny/eval/fer2013_public_test_ten_crop.json").exists()
    assert (folder / "models/my_network/model.jax_export").exists()
    assert (folder / "models/tflite/classifier.tflite").exists()


def test_no_page_has_commands_that_nothing_runs():
    for path in (*DOCUMENTS, ROOT / "CONTRIBUTING.md"):
        page = str(path.relative_to(ROOT))
        left = set(commands_of(page)) - ELSEWHERE
        assert not left or page in PAGES, page


@pytest.mark.parametrize("page", [str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_code_runs(after_commands, run_python, page):
    code = "".join(blocks(page, "python"))
    if code and page not in IS_FILE:
        code = BEFORE.get(page, "") + code
        output = run_python("-c", code, cwd=after_commands, fresh=True).stdout
        if page in ("README.md", "docs/tutorials/photos.md"):
            assert "happy" in output


def test_tables_are_what_the_results_say(run_python):
    run_python("scripts/tables.py", "--check")


def write_video(path, frame, num=10):
    import cv2

    size = frame.shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, size)
    for _ in range(num):
        writer.write(frame[..., ::-1].copy())
    writer.release()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_reproducing_calls_what_there_is():
    command = ["make", "--dry-run", "reproduce", "MODEL=tiny"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    named = re.findall(r"(?:scripts|configs|results)/\S+", text)
    assert len(named) >= 5
    for path in named:
        assert (ROOT / path).exists(), path


def said(page):
    return " ".join((ROOT / page).read_text().split())


def kept(name):
    return json.loads((ROOT / "results" / name).read_text())


def test_what_is_said_of_detectors_is_what_the_files_say():
    text, measured = said("docs/realtime.md"), kept("detectors.json")
    short, full = measured["recall"]
    assert f"finds {short['width']['100']:.0%} of".replace("%", " %") in text
    assert f"finds {full['width']['40']:.0%} of faces 40".replace("%", " %") in text
    assert full["frame_ms"] / short["frame_ms"] == pytest.approx(2.5, abs=0.1)
    litert = measured["litert"]["short"]
    assert f"{litert['litert_ms']:.1f} against {litert['network_ms']:.1f} ms" in text
    photos = {(row["model"], row.get("detector")): row for row in kept("photos.json")}
    tiny = photos["tiny", "auto"]
    assert tiny["read"] == 100
    assert (
        f"sure of {tiny['sure']} in 100, and right in {tiny['sure_right']} of those"
    ) in said("README.md")


def test_what_is_said_of_speed_is_what_the_files_say():
    measured = kept("benchmark_cpu_realtime.json")
    one = next(r for r in measured["runs"] if (r["cores"], r["faces"]) == (2, 1))
    whole = f"{one['whole']['p50_ms']:.1f} ms"
    assert f"with one face takes {whole} on two CPU cores" in said("README.md")
    text = said("docs/realtime.md")
    assert (
        f"Of the {whole} of one face the detector takes "
        f"{one['detector']['p50_ms']:.1f} and the classifier "
        f"{one['classifier']['p50_ms']:.1f},"
    ) in text
    rate = measured["video"]["frames_per_second"]
    assert f"it is {rate:.0f} frames a second" in text


def test_the_soak_held():
    soak = kept("soak.json")
    assert list(find_failures(soak)) == []
    assert (soak["clients"]["clients"], soak["clients"]["seconds"]) == (16, 600)
    assert soak["video"]["frames"] == 10_000
    for part in soak["bad_inputs"].values():
        assert part["refused"] + part["read"] == 10_000
    assert f"{soak['attacked']['p95_ms']:.0f} ms" in said("docs/http.md")


def test_pictures_in_bulk_were_all_there_once():
    kept_of_bulk = kept("bulk.json")
    kills = kept_of_bulk["kills"]
    assert kills["pictures"] == kills["rows"] == 20_000
    assert kills["faces"] > 10_000
    assert (kills["missing"], kills["twice"], kills["different"]) == (0, 0, 0)
    few, many = (row["most_mib"] for row in kept_of_bulk["memory"]["lists"])
    assert many < 1.1 * few
    few, many = kept_of_bulk["tf_data"]
    assert (few["read"], many["faces"]) == (49_920, 200_000)
    assert many["most_mib"] < 1.1 * few["most_mib"]


def test_what_is_said_of_hosts_is_what_the_file_says():
    measured, text = kept("hosts.json"), said("docs/scale.md")
    assert list(hosts.find_failures(measured)) == []
    assert len(measured["kills"]) == 10
    number, size = measured["reductions"].values()
    assert f"{number} reductions of a step" in text
    assert f"{size / 1e6:.1f} MB" in text
    assert (
        f"{measured['efficiency']['of two cores']:.0%} of two".replace("%", " %")
        in text
    )
    one, two, apart = (f"{x:,.0f}" for x in measured["speed"].values())
    assert f"trains {one} faces a second, with two devices {two}" in text
    assert f"each {apart}" in text
    for name in ("walked", "decoded"):
        thousands = round(measured["input"][name] / 1000)
        assert f"some {thousands},000" in text


def test_what_is_said_of_the_browser_is_what_the_file_says():
    text, measured = said("docs/web.md"), kept("web.json")
    speed = measured["speed"]
    rows = {
        "deepfer_short": "deepfer_jax, `short`",
        "deepfer_full": "deepfer_jax, `full` (the default)",
        "human": "@vladmandic/human 3.3.6, detector and emotion alone",
        "face_api": "@vladmandic/face-api 1.7.15, tiny detector and expressions",
    }
    for program, row in rows.items():
        taken = speed["programs"][program]["p50_ms"]
        assert f"| {row} | {taken} |" in text
        if program in ("human", "face_api"):
            short, full = (
                speed["ratio"][f"{program}_over_deepfer_{name}"]
                for name in ("short", "full")
            )
            assert f"| {taken} | {short:.1f} | {full:.1f} |" in text
    assert f"of {speed['rounds']} frames" in text
    assert speed["programs"]["human"]["faces_a_frame"] == 1.2
    auto, short = measured["photographs_auto"], measured["photographs_short"]
    for found in (*auto.values(), *short.values()):
        assert (found["missed"], found["added"], found["labels"]) == (0, 0, 0)
        assert found["box"] <= 0.05
        assert found["probability"] <= 0.005
    assert auto["stills"]["probability"] <= 0.002
    stills = auto["stills"]
    assert f"On {stills['pictures']} photographs" in text
    assert f"the same {stills['faces']} faces" in text
    onnx = measured["onnxruntime"]
    assert max(onnx["short"]["box"], onnx["full"]["box"]) < 0.001
    assert onnx["classifier"]["probability"] < 1e-5
