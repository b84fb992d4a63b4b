"""report: every part is there, with the numbers of the files; nothing is fetched."""

import base64
import html.parser
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from deepfer_jax.data import datasets
from deepfer_jax.errors import UserError
from deepfer_jax.evaluation import figures, report
from deepfer_jax.evaluation.calibration import calibrate, scale
from deepfer_jax.evaluation.report import create_report
from deepfer_jax.evaluation.results import read_results
from deepfer_jax.exported import find_model

CLASSES = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
DATASET = "synthetic_faces/small/1.0.0"
VOID = {"meta", "img", "br", "path", "use", "rect", "input", "link", "line"}
SVG = "data:image/svg+xml;base64,"


class Checker(html.parser.HTMLParser):
    """Every element is closed in its order; collects ids, texts and attributes."""

    def __init__(self):
        super().__init__()
        self.stack, self.ids, self.sources, self.titles = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.sources += [attrs[a] for a in ("src", "href", "xlink:href") if a in attrs]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "h2":
            self.titles.append(data)


def result(probabilities, labels, **more):
    matrix = np.zeros((7, 7), int)
    np.add.at(matrix, (labels, probabilities.argmax(1)), 1)
    row = {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 20}
    return {
        "dataset": DATASET, "split": "test", "tta": "none", "left_out": 0,
        "temperature": 1.0,
        "classes": CLASSES,
        "n": len(labels), "accuracy": float(np.diag(matrix).sum() / len(labels)),
        "accuracy_ci95": [0.1, 0.2], "macro_f1": 0.1, "balanced_accuracy": 0.1,
        "nll": 1.0, "ece": 0.1, "per_class": dict.fromkeys(CLASSES, row),
        "confusion_matrix": matrix.tolist(),
        "calibration_bins": [{"n": 9, "confidence": 0.5, "accuracy": 0.4}] * 15,
    } | more  # fmt: skip


def rewrite(path, **more):
    """Changes fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


@pytest.fixture
def folder(tmp_path, small_data_dir):
    """A run's folder with an evaluation on the small synthetic faces."""
    builder = datasets.load_builder("synthetic_faces/small", small_data_dir)
    faces = datasets.load_split(builder, "test")
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(7), len(faces["label"])).astype(np.float32)
    name = "synthetic_faces_test_none"
    (tmp_path / "eval").mkdir()
    found = result(probabilities, faces["label"])
    (tmp_path / "eval" / f"{name}.json").write_text(json.dumps(found))
    np.savez(
        tmp_path / "eval" / f"{name}.npz",
        probabilities=probabilities,
        label=faces["label"],
        id=np.array(faces["id"]),
    )
    return tmp_path


def add_everything(folder):
    arrays = np.load(folder / "eval" / "synthetic_faces_test_none.npz")
    found = calibrate(arrays["probabilities"], arrays["label"])
    text = json.dumps({"dataset": DATASET, "split": "<validation>"} | found)
    (folder / "calibration.json").write_text(text)
    corruptions = {
        "dataset": DATASET, "split": "test", "n": 140, "clean_accuracy": 0.5,
        "severities": [1, 2, 3, 4, 5], "accuracy": {"dark": [0.5, 0.4, 0.3, 0.2, 0.1]},
        "mean_accuracy": {"dark": 0.3}, "mean_corruption_accuracy": 0.3123,
    }  # fmt: skip
    path = folder / "eval" / "synthetic_faces_test_corruptions.json"
    path.write_text(json.dumps(corruptions))
    config = {
        "model": {"name": "tiny"}, "dataset": {"name": "<faces>", "train_split": "a"},
        "train": {"num_epochs": 3}, "seed": 7,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    lines = [
        {"step": 5, "train/loss": 2.0, "train/accuracy": 0.1, "train/learning_rate": 1},
        {"step": 5, "validation/nll": 2.0, "validation/accuracy": 0.1},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 6, "tra'  # cut by a kill
    (folder / "metrics.jsonl").write_text(text)


def drawings(page):
    """The SVG figures of a page, as text."""
    found = re.findall(rf'src="{re.escape(SVG)}([^"]+)"', page)
    return [base64.b64decode(x).decode() for x in found]


def check(page):
    checker = Checker()
    checker.feed(page)
    assert not checker.stack
    assert len(checker.ids) == len(set(checker.ids))
    for source in checker.sources:
        assert source.startswith(("data:image/png;base64,", SVG)), source
    assert not re.search(r"<script|@import|url\(http", page)
    return checker


def test_a_whole_page(folder, small_data_dir):
    add_everything(folder)
    page = create_report(folder, data_dir=small_data_dir)
    checker = check(page)
    assert checker.titles == [
        "Evaluations", "Training", "Confusion matrix", "By class", "Calibration",
        "Accuracy against coverage", "Under corruptions", "Surest mistakes",
        "Where it looks",
    ]  # fmt: skip
    assert "31.2% on average" in page
    assert "&lt;validation&gt;" in page
    assert "trained on &lt;faces&gt; (a), 3 epochs, seed 7." in page
    assert "<validation>" not in page
    assert "<faces>" not in page
    assert "cross entropy by step: training 2 at step 5" in page
    assert page == create_report(folder, data_dir=small_data_dir)


def test_mistakes_are_the_surest_wrong_ones(folder, small_data_dir):
    page = create_report(folder, data_dir=small_data_dir)
    arrays = np.load(folder / "eval" / "synthetic_faces_test_none.npz")
    rows = zip(arrays["probabilities"], arrays["label"], arrays["id"], strict=True)
    wrong = [(p.max(), name) for p, label, name in rows if p.argmax() != label]
    expected = [name for _, name in sorted(wrong, reverse=True)[:21]]
    assert re.findall(r"test_\d{5}", page[page.index("Surest") :]) == expected
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(pictures) == 21
    builder = datasets.load_builder("synthetic_faces/small", small_data_dir)
    faces = datasets.load_split(builder, "test")
    for picture, name in zip(pictures, expected, strict=True):
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
        face = faces["image"][faces["id"].index(name), :, :, 0]
        np.testing.assert_array_equal(image, face)


def test_heat_maps_beside_mistakes_and_of_every_class(folder, small_data_dir):
    for name in ("metadata.json", "params.safetensors"):
        shutil.copy(find_model("tiny") / name, folder)
    page = create_report(folder, data_dir=small_data_dir)
    check(page)
    mistakes, looks = page[page.index("Surest") :].split("Where it looks")
    for part, num in ((mistakes, 21), (looks, 7)):
        pictures = re.findall(r"data:image/png;base64,([^\"]+)", part)
        assert len(pictures) == 3 * num
        shapes = [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(x)))).shape
            for x in pictures
        ]
        assert set(shapes) == {(48, 48), (48, 48, 3)}
    assert "happy, mean of 20 faces" in looks


def test_without_faces_no_picture_and_no_data_is_needed(folder):
    page = create_report(folder)
    assert "data:image/png" not in page
    assert "Surest" not in page
    check(page)


def test_absent_parts_say_how_they_are_made(folder):
    page = create_report(folder)
    assert "scripts/export.py" in page
    assert "--corruptions" in page
    assert "Training" not in page


def test_the_newest_single_view_is_shown_unless_another_is_named(folder):
    old = folder / "eval" / "synthetic_faces_test_none"
    for suffix in (".json", ".npz"):
        flip = old.with_name(f"synthetic_faces_test_flip{suffix}")
        flip.write_bytes(old.with_suffix(suffix).read_bytes())
    path = folder / "eval" / "synthetic_faces_test_flip.json"
    rewrite(path, tta="flip", accuracy=0.98765)
    page = create_report(folder)
    assert "<td>98.77%</td>" in page  # a row of the table
    assert "<strong>98.77%" not in page
    assert "<strong>98.77%" in create_report(folder, "synthetic_faces_test_flip")
    with pytest.raises(UserError, match=r"--evaluation: expected one of .*'other'"):
        create_report(folder, "other")


def test_unsure_is_marked_where_it_begins_on_the_shown_faces(folder):
    add_everything(folder)
    rewrite(folder / "calibration.json", temperature=2.5, threshold=0.28)
    page = create_report(folder)
    arrays = np.load(folder / "eval" / "synthetic_faces_test_none.npz")
    kept = right = 0
    for p, label in zip(arrays["probabilities"], arrays["label"], strict=True):
        # softmax(log(p) / 2.5), by hand.
        powers = [float(x) ** (1 / 2.5) for x in p]
        if max(powers) / sum(powers) >= 0.28:
            kept += 1
            right += int(p.argmax() == label)
    assert 0 < kept < len(arrays["label"])
    text = f"{kept / len(arrays['label']):.1%} are not, and {right / kept:.1%} of those"
    assert text in page
    rewrite(folder / "calibration.json", threshold=1.0)
    assert "0.0% are not, and none is left" in create_report(folder)


def test_an_exported_model_shows_the_same_reliability_as_its_run(folder, tmp_path):
    add_everything(folder)
    found = json.loads((folder / "calibration.json").read_text())
    of_run = read_results(folder).probabilities()
    # The exported model's probabilities are calibrated already.
    path = folder / "eval" / "synthetic_faces_test_none.npz"
    arrays = dict(np.load(path))
    scaled = scale(arrays["probabilities"], found["temperature"])
    np.savez(path, **arrays | {"probabilities": scaled})
    rewrite(path.with_suffix(".json"), temperature=found["temperature"])
    of_model = read_results(folder).probabilities()
    assert list(of_model) == list(of_run) == ["as trained", "calibrated"]
    for name, probabilities in of_run.items():
        np.testing.assert_allclose(of_model[name], probabilities, atol=1e-6)
    rewrite(path.with_suffix(".json"), tta="flip")
    assert list(read_results(folder).probabilities()) == ["calibrated"]
    check(create_report(folder))


def test_stored_and_drawn_calibration_errors_agree(folder):
    add_everything(folder)
    found = json.loads((folder / "calibration.json").read_text())
    text = f"{found['ece_before']:.2%} as trained, {found['ece_after']:.2%} calibrated"
    assert text in create_report(folder)


def test_without_probabilities_the_numbers_are_still_shown(folder):
    add_everything(folder)
    (folder / "eval" / "synthetic_faces_test_none.npz").unlink()
    page = create_report(folder, data_dir="nowhere")
    check(page)
    command = f"--workdir {folder} --dataset synthetic_faces/small --split test"
    assert page.count(f"evaluate.py {command}</code>") == 2  # coverage, mistakes
    rewrite(folder / "eval" / "synthetic_faces_test_none.json", tta="flip")
    assert f"evaluate.py {command} --tta flip</code>" in create_report(folder)


def test_no_mistake_is_no_picture(folder):
    path = folder / "eval" / "synthetic_faces_test_none.npz"
    arrays = dict(np.load(path))
    perfect = np.eye(7, dtype=np.float32)[arrays["label"]]
    np.savez(path, **arrays | {"probabilities": perfect})
    assert "Every face was classified correctly" in create_report(
        folder, data_dir="nowhere"
    )


def test_class_names_are_shown_as_they_are(folder):
    names = ["$x$", "<b>", "a_b", 'say "no"', "&amp;", "ärger", "happy"]
    path = folder / "eval" / "synthetic_faces_test_none.json"
    per_class = json.loads(path.read_text())["per_class"]
    per_class = dict(zip(names, per_class.values(), strict=True))
    rewrite(path, classes=names, per_class=per_class)
    texts = []
    checker = check(page := create_report(folder))
    checker.handle_data = texts.append
    checker.feed(page)
    for drawing in drawings(page):
        checker.feed(drawing)
    for name in names:
        # Both axes of the confusion matrix, the bars, the table.
        assert texts.count(name) == 4, name


def test_text_can_be_read_in_both_themes():
    """Contrast as in WCAG 2.2: 4.5 for text, 3 for what is drawn."""

    def rgb(color):
        color = color.lstrip("#")
        color = "".join(2 * x for x in color) if len(color) == 3 else color
        return np.array([int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)])

    def contrast(a, b):
        linear = [
            np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
            for c in (a, b)
        ]
        low, high = sorted(x @ (0.2126, 0.7152, 0.0722) + 0.05 for x in linear)
        return high / low

    assert contrast(rgb("#fff"), rgb("#777777")) == pytest.approx(4.48, abs=0.01)
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+)", part))
        for part in report._STYLE.split("prefers-color-scheme: dark")
    )
    for theme in (light, light | dark):
        face, ink = rgb(theme["face"]), rgb(theme["ink"])
        assert contrast(face, ink) >= 4.5
        assert contrast(face, rgb(theme["muted"])) >= 4.5
        # One drawing for both: 4.5 against each cannot be had.
        assert contrast(face, rgb(figures.INK)) >= 4.1
        for color in figures.SERIES:
            assert contrast(face, rgb(color)) >= 3


def test_the_confusion_matrix_counts_along_rows():
    image = figures.confusion_figure(["a", "b"], [[3, 1], [0, 5]])
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", drawings(image)[0])
    assert [x for x in texts if x.isdigit()] == ["3", "1", "0", "5"]
    assert [x for x in texts if "%" in x] == ["75%", "25%", "0%", "100%"]
    assert "a 75% as a, 25% as b; b 100% as b" in image


def test_what_is_missing_or_damaged_is_said(tmp_path, folder, small_data_dir):
    with pytest.raises(UserError, match=r"scripts/evaluate\.py --workdir .*none "):
        create_report(tmp_path / "none")
    path = folder / "eval" / "synthetic_faces_test_none.npz"
    arrays = dict(np.load(path))
    np.savez(path, **arrays | {"id": arrays["id"][::-1]})
    with pytest.raises(UserError, match="is not what synthetic_faces_test_none was"):
        create_report(folder, data_dir=small_data_dir)
    rewrite(path.with_suffix(".json"), dataset="fer2013/1.0.0")
    with pytest.raises(UserError, match=r"not prepared in nowhere(.|\n)*--no-faces"):
        create_report(folder, data_dir="nowhere")
    np.savez(path, **{name: x[:9] for name, x in arrays.items()})
    with pytest.raises(UserError, match=r"expected the \d+ faces .* found 9"):
        create_report(folder)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"test_none\.npz: expected probabilities of"):
        create_report(folder)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(UserError, match=r"test_none\.json is damaged"):
        create_report(folder)


def test_the_script_writes_the_page(folder, run_python):
    out = folder / "new" / "page.html"
    args = ("--workdir", folder, "--no-faces", "--out", out)
    assert str(out) in run_python("scripts/report.py", *args).stdout
    check(out.read_text(encoding="utf-8"))
