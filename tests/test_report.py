"""report: every part is there, with the numbers of the files; nothing is fetched."""

import html.parser
import json
import re

import numpy as np
import pytest

from deepfer_jax.calibration import calibrate
from deepfer_jax.data import datasets
from deepfer_jax.errors import UserError
from deepfer_jax.report import create_report

CLASSES = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
DATASET = "synthetic_faces/small/1.0.0"
VOID = {"meta", "img", "br", "path", "use", "rect", "input", "link", "line"}


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
        "dataset": DATASET, "split": "test", "tta": "none", "classes": CLASSES,
        "n": len(labels), "accuracy": float(np.diag(matrix).sum() / len(labels)),
        "accuracy_ci95": [0.1, 0.2], "macro_f1": 0.1, "balanced_accuracy": 0.1,
        "nll": 1.0, "ece": 0.1, "per_class": dict.fromkeys(CLASSES, row),
        "confusion_matrix": matrix.tolist(),
        "calibration_bins": [{"n": 9, "confidence": 0.5, "accuracy": 0.4}] * 15,
    } | more  # fmt: skip


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
    text = json.dumps({"split": "<validation>"} | found)
    (folder / "calibration.json").write_text(text)
    corruptions = {
        "dataset": DATASET, "split": "test", "n": 140, "clean_accuracy": 0.5,
        "severities": [1, 2, 3, 4, 5], "accuracy": {"dark": [0.5, 0.4, 0.3, 0.2, 0.1]},
        "mean_accuracy": {"dark": 0.3}, "mean_corruption_accuracy": 0.3123,
    }  # fmt: skip
    path = folder / "eval" / "synthetic_faces_test_corruptions.json"
    path.write_text(json.dumps(corruptions))
    lines = [
        {"step": 5, "train/loss": 2.0, "train/accuracy": 0.1, "train/learning_rate": 1},
        {"step": 5, "validation/nll": 2.0, "validation/accuracy": 0.1},
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))


def check(page):
    checker = Checker()
    checker.feed(page)
    assert not checker.stack
    assert len(checker.ids) == len(set(checker.ids))
    for source in checker.sources:
        assert source.startswith(("#", "data:image/png;base64,")), source
    assert not re.search(r"<script|@import|url\(http", page)
    for link in re.findall(r"(?:href=\"|url\()#([^\")]+)", page):
        assert link in checker.ids
    return checker


def test_a_whole_page(folder, small_data_dir):
    add_everything(folder)
    page = create_report(folder, data_dir=small_data_dir)
    checker = check(page)
    assert checker.titles == [
        "Evaluations", "Loss", "Accuracy in training", "Learning rate",
        "Confusion matrix", "By class", "Calibration", "Accuracy against coverage",
        "Under corruptions", "Surest mistakes",
    ]  # fmt: skip
    assert "31.2% on average" in page
    assert "&lt;validation&gt;" in page
    assert "<validation>" not in page
    assert not re.search("#0[0-9a-f]0[0-9a-f]0[0-9a-f]", page)  # placeholders
    assert page == create_report(folder, data_dir=small_data_dir)


def test_mistakes_are_the_surest_wrong_ones(folder, small_data_dir):
    page = create_report(folder, data_dir=small_data_dir)
    arrays = np.load(folder / "eval" / "synthetic_faces_test_none.npz")
    rows = zip(arrays["probabilities"], arrays["label"], arrays["id"], strict=True)
    wrong = [(p.max(), name) for p, label, name in rows if p.argmax() != label]
    expected = [name for _, name in sorted(wrong, reverse=True)[:21]]
    assert re.findall(r"test_\d{5}", page[page.index("Surest") :]) == expected
    assert page.count("data:image/png") == 21


def test_without_faces_no_picture_and_no_data_is_needed(folder):
    page = create_report(folder)
    assert "data:image" not in page
    assert "Surest" not in page
    check(page)


def test_absent_parts_say_how_they_are_made(folder):
    page = create_report(folder)
    assert "scripts/export.py" in page
    assert "--corruptions" in page
    assert "Learning rate" not in page


def test_the_newest_single_view_is_shown_unless_another_is_named(folder):
    old = folder / "eval" / "synthetic_faces_test_none"
    for suffix in (".json", ".npz"):
        flip = old.with_name(f"synthetic_faces_test_flip{suffix}")
        flip.write_bytes(old.with_suffix(suffix).read_bytes())
    path = folder / "eval" / "synthetic_faces_test_flip.json"
    found = json.loads(path.read_text()) | {"tta": "flip", "accuracy": 0.98765}
    path.write_text(json.dumps(found))
    page = create_report(folder)
    assert "<td>98.77%</td>" in page  # a row of the table
    assert "<strong>98.77%" not in page
    assert "<strong>98.77%" in create_report(folder, "synthetic_faces_test_flip")
    with pytest.raises(UserError, match=r"--evaluation: expected one of .*'other'"):
        create_report(folder, "other")


def test_what_is_missing_is_said(tmp_path, folder, small_data_dir):
    with pytest.raises(UserError, match=r"scripts/evaluate\.py"):
        create_report(tmp_path / "none")
    path = folder / "eval" / "synthetic_faces_test_none.npz"
    arrays = dict(np.load(path))
    np.savez(path, **arrays | {"id": arrays["id"][::-1]})
    with pytest.raises(UserError, match="is not what synthetic_faces_test_none was"):
        create_report(folder, data_dir=small_data_dir)


def test_the_script_writes_the_page(folder, run_python):
    out = run_python("scripts/report.py", "--workdir", folder, "--no-faces").stdout
    assert "report.html" in out
    check((folder / "report.html").read_text())
