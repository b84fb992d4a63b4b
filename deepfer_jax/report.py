"""One HTML page about a trained network, from what its folder holds.

    page = create_report("runs/tiny", data_dir="data")
    pathlib.Path("runs/tiny/report.html").write_text(page)

The page needs no network, no script and no other file. It shows the numbers of every
evaluation in DIR/eval, training curves (metrics.jsonl), and of one evaluation the
confusion matrix, bars by class, reliability before and after calibration, accuracy
against coverage, accuracy under corruptions, and the surest mistakes as pictures.
"""

import base64
import html
import io
import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from deepfer_jax import figures
from deepfer_jax.calibration import coverage_curve
from deepfer_jax.data import datasets
from deepfer_jax.errors import UserError

_NUM_MISTAKES = 21
_VIEWS = {"none": "one view", "flip": "flip", "ten_crop": "ten crops"}
_STYLE = """
:root { --face: #fff; --ink: #1b1f24; --muted: #6a737d; --line: #d8dee4;
  --c0: #0072b2; --c1: #d55e00; --c2: #00795a; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --face: #15181c; --ink: #e8eaed;
  --muted: #9aa4ae; --line: #333a42; --c0: #56b4e9; --c1: #e69f00; --c2: #3ecfa3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--face);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
.note { color: var(--muted); }
.grid { display: grid; gap: 2rem 1.5rem; margin-top: 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
section { min-width: 0; } .wide { grid-column: 1 / -1; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; } td, th { padding: .3rem .7rem; text-align: right;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
td:first-child, th:first-child { text-align: left; padding-left: 0; }
@media (max-width: 30rem) { td, th { padding: .3rem .35rem; } }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); }
.small { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(45%, 11rem), 1fr)); }
.faces { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); }
figure { margin: 0; } figcaption { font-size: .8rem; overflow-wrap: anywhere; }
img { width: 100%; image-rendering: pixelated; border-radius: 4px; display: block; }
"""


class Report(NamedTuple):
    """What a page is made of; a part that is not there is None or empty.

    evaluations: by the name of their file; chosen: the name of the one shown in detail;
    arrays: its probabilities, label and id; corruptions and calibration: JSON; metrics:
    lines of metrics.jsonl; config: config.json.
    """

    folder: pathlib.Path
    evaluations: dict[str, dict[str, Any]]
    chosen: str
    arrays: dict[str, np.ndarray]
    corruptions: dict[str, Any] | None
    calibration: dict[str, Any] | None
    metrics: list[dict[str, Any]]
    config: dict[str, Any] | None


def create_report(
    folder: str | os.PathLike,
    evaluation: str | None = None,
    data_dir: str | os.PathLike | None = None,
) -> str:
    """Returns the page, as HTML.

    Args:
      folder: a training run or an exported model, evaluated.
      evaluation: the name of a file in its eval/, without suffix; by default the newest
        of a single view.
      data_dir: where the evaluated data set is prepared; None leaves out the pictures
        of mistakes.

    Raises:
      UserError: there is no evaluation, none of that name, or no such data.
    """
    report = _read_report(pathlib.Path(folder), evaluation)
    sections = [
        _section("Evaluations", _evaluations(report), "wide"),
        *_curves(report),
        _section("Confusion matrix", _confusion(report)),
        _section("By class", _classes(report)),
        _section("Calibration", _reliability(report)),
        _section("Accuracy against coverage", _coverage(report)),
        _section("Under corruptions", _corruptions(report), "wide"),
    ]
    if data_dir is not None:
        sections.append(
            _section("Surest mistakes", _mistakes(report, data_dir), "wide")
        )
    result = report.evaluations[report.chosen]
    title = f"{report.folder.name}: {result['dataset']} {result['split']}"
    low, high = result["accuracy_ci95"]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style></head><body>\n"
        f"<h1>{html.escape(title)}</h1>\n"
        f"<p><strong>{result['accuracy']:.2%}</strong> of {result['n']:,} faces read "
        f"rightly (95 % interval {low:.2%} to {high:.2%}), "
        f"{_VIEWS.get(result['tta'], result['tta'])}.</p>\n"
        f'<main class="grid">\n{"".join(sections)}</main>\n</body></html>\n'
    )


def _read_report(folder: pathlib.Path, evaluation: str | None) -> Report:
    paths = sorted((folder / "eval").glob("*.json"), key=lambda p: p.stat().st_mtime)
    documents = {path.stem: _read(path) for path in paths}
    evaluations = {k: d for k, d in documents.items() if "confusion_matrix" in d}
    if not evaluations:
        raise UserError(
            f"{folder / 'eval'} holds no evaluation: make one with\n"
            f"  python scripts/evaluate.py --workdir {folder} --dataset NAME "
            "--split SPLIT"
        )
    singles = [k for k, d in evaluations.items() if d["tta"] == "none"]
    chosen = evaluation or (singles or list(evaluations))[-1]
    if chosen not in evaluations:
        raise UserError(
            f"--evaluation: expected one of {sorted(evaluations)}, found {chosen!r}"
        )
    result = evaluations[chosen]
    corruptions = [
        d
        for d in documents.values()
        if "mean_corruption_accuracy" in d
        and (d["dataset"], d["split"]) == (result["dataset"], result["split"])
    ]
    with np.load(folder / "eval" / f"{chosen}.npz") as file:
        arrays = dict(file)
    return Report(
        folder,
        evaluations,
        chosen,
        arrays,
        corruptions[-1] if corruptions else None,
        _read_calibration(folder),
        _read_lines(folder / "metrics.jsonl"),
        _read(folder / "config.json") if (folder / "config.json").exists() else None,
    )


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): make it again") from None


def _read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def _read_calibration(folder: pathlib.Path) -> dict[str, Any] | None:
    """Of a run, or of an exported model."""
    if (folder / "calibration.json").exists():
        return _read(folder / "calibration.json")
    if (folder / "metadata.json").exists():
        return _read(folder / "metadata.json").get("calibration")
    return None


def _section(title: str, body: str, css_class: str = "") -> str:
    return f'<section class="{css_class}"><h2>{title}</h2>\n{body}\n</section>\n'


def _note(text: str) -> str:
    return f'<p class="note">{text}</p>'


def _table(head: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        inner = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>\n"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>{line(head, "th")}{body}</table></div>'


def _evaluations(report: Report) -> str:
    head = ["data", "split", "views", "faces", "accuracy", "95 % interval"]
    head += ["macro-F1", "balanced accuracy", "calibration error", "log-likelihood"]
    rows = [
        [
            result["dataset"],
            result["split"],
            _VIEWS.get(result["tta"], result["tta"]),
            f"{result['n']:,}",
            f"{result['accuracy']:.2%}",
            "{:.2%} to {:.2%}".format(*result["accuracy_ci95"]),
            f"{result['macro_f1']:.2%}",
            f"{result['balanced_accuracy']:.2%}",
            f"{result['ece']:.2%}",
            f"{-result['nll']:.4f}",
        ]
        for result in report.evaluations.values()
    ]
    return _table(head, rows) + _note(f"In detail below: {html.escape(report.chosen)}.")


def _curves(report: Report) -> list[str]:
    """Loss, accuracy and learning rate by step; nothing for an exported model."""
    if not report.metrics:
        return []

    def line(name: str) -> tuple[list, list]:
        points = [(m["step"], m[name]) for m in report.metrics if name in m]
        return tuple(map(list, zip(*points, strict=True))) if points else ([], [])

    loss = {"training": line("train/loss"), "validation": line("validation/nll")}
    accuracy = {
        "training": line("train/accuracy"),
        "validation": line("validation/accuracy"),
    }
    rate = {"learning rate": line("train/learning_rate")}
    return [
        _section(title, figures.curves_figure(name, title, label, lines))
        for name, title, label, lines in (
            ("loss", "Loss", "cross entropy", loss),
            ("accuracy", "Accuracy in training", "accuracy", accuracy),
            ("rate", "Learning rate", "learning rate", rate),
        )
    ]


def _confusion(report: Report) -> str:
    result = report.evaluations[report.chosen]
    return figures.confusion_figure(result["classes"], result["confusion_matrix"])


def _classes(report: Report) -> str:
    per_class = report.evaluations[report.chosen]["per_class"]
    head = ["class", "faces", "precision", "recall", "F1"]
    rows = [
        [name, f"{row['support']:,}"]
        + [f"{row[key]:.1%}" for key in ("precision", "recall", "f1")]
        for name, row in per_class.items()
    ]
    return figures.classes_figure(per_class) + _table(head, rows)


def _reliability(report: Report) -> str:
    found, result = report.calibration, report.evaluations[report.chosen]
    if found is None:
        bins = {"as trained": result["calibration_bins"]}
        return figures.reliability_figure(bins) + _note(
            "Not calibrated yet: <code>python scripts/export.py --workdir "
            f"{html.escape(str(report.folder))} --out MODEL</code>."
        )
    bins = {"as trained": found["bins_before"], "calibrated": found["bins_after"]}
    return figures.reliability_figure(bins) + _note(
        f"Expected calibration error {found['ece_before']:.2%} before, "
        f"{found['ece_after']:.2%} after dividing logits by "
        f"{found['temperature']:.3f} ({found['n']:,} faces of "
        f"{html.escape(found['split'])})."
    )


def _coverage(report: Report) -> str:
    arrays, found = report.arrays, report.calibration
    _, coverage, accuracy = coverage_curve(arrays["probabilities"], arrays["label"])
    svg = figures.coverage_figure(coverage, accuracy, found)
    if found is None:
        return svg + _note("No threshold for <em>unsure</em> yet: export the run.")
    return svg + _note(
        f"Above probability {found['threshold']:.3f}, {found['coverage']:.1%} of the "
        f"validation faces are kept and {found['target_accuracy']:.0%} of them are "
        "read rightly; the others are called unsure."
    )


def _corruptions(report: Report) -> str:
    found = report.corruptions
    if found is None:
        return _note(
            "Not measured yet: "
            "<code>python scripts/evaluate.py ... --corruptions</code>."
        )
    clean = found["clean_accuracy"]
    svgs = [
        figures.corruption_figure(name, clean, row)
        for name, row in found["accuracy"].items()
    ]
    return (
        _note(
            f"Accuracy by severity, 0 (none) to 5: {clean:.1%} without, "
            f"{found['mean_corruption_accuracy']:.1%} on average with."
        )
        + f'<div class="small">{"".join(svgs)}</div>'
    )


def _mistakes(report: Report, data_dir: str | os.PathLike) -> str:
    """Pictures of the faces that were read wrongly with the highest probability."""
    result = report.evaluations[report.chosen]
    probabilities, label = report.arrays["probabilities"], report.arrays["label"]
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != label)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:_NUM_MISTAKES]
    name = result["dataset"].rpartition("/")[0]
    faces = datasets.load_split(datasets.load_builder(name, data_dir), result["split"])
    if faces["id"] != report.arrays["id"].tolist():
        raise UserError(
            f"{data_dir}: {name} {result['split']} is not what {report.chosen} was "
            "evaluated on: evaluate again, or name its place by --data_dir"
        )
    classes = result["classes"]
    items = []
    for i in wrong:
        text = (
            f"{classes[label[i]]}, read as {classes[predicted[i]]} "
            f"({confidence[i]:.0%})"
        )
        source = _data_uri(faces["image"][i])
        items.append(
            f'<figure><img alt="{html.escape(text)}" src="{source}">'
            f"<figcaption>{html.escape(text)}<br>"
            f'<span class="note">{html.escape(faces["id"][i])}</span>'
            "</figcaption></figure>"
        )
    return f'<div class="faces">{"".join(items)}</div>'


def _data_uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
