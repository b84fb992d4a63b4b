"""One HTML page about a trained network, from what its folder holds.

    page = create_report("runs/tiny", data_dir="data")
    pathlib.Path("runs/tiny/report.html").write_text(page)

The page needs no network, no script and no other file. It shows the numbers of every
evaluation in DIR/eval, training curves (metrics.jsonl), and of one evaluation the
confusion matrix, bars by class, reliability before and after calibration, accuracy
against coverage, accuracy under corruptions, and, where the data is, the surest
mistakes as pictures with their heat maps (`explain`) and the mean maps of every class.
"""

import base64
import html
import io
import os
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from deepfer_jax.errors import UserError
from deepfer_jax.evaluation import figures
from deepfer_jax.evaluation.calibration import calibration_bins, coverage_curve
from deepfer_jax.evaluation.explain import explain_faces
from deepfer_jax.evaluation.metrics import calibration_error
from deepfer_jax.evaluation.results import (
    VIEW_NAMES,
    Results,
    load_images,
    read_results,
    same_faces,
)
from deepfer_jax.occlusion import tint
from deepfer_jax.runs.trained import TrainedModel, load_trained

_NUM_MISTAKES = 21
_NUM_EXPLAINED = 20  # of each class
_MAPS = (
    "Beside each face what speaks for the class that was read: Grad-CAM of the last "
    "stage; and where hiding the face takes from its probability (red) or adds to it "
    "(blue)."
)
_STYLE = """
:root { --face: #fff; --ink: #1b1f24; --muted: #5f6872; --line: #d8dee4;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --face: #15181c; --ink: #e8eaed;
  --muted: #9aa4ae; --line: #333a42; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--face);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
.note { color: var(--muted); } code { overflow-wrap: anywhere; }
.grid { display: grid; gap: 2rem 1.5rem; margin-top: 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
section { min-width: 0; } .wide { grid-column: 1 / -1; }
.scroll { overflow-x: auto; margin-top: .75rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .7rem; text-align: right;
  border-bottom: 1px solid var(--line); vertical-align: bottom; }
td { white-space: nowrap; } th { font-weight: 600; } th[scope=row] { font-weight: 400; }
th:first-child { text-align: left; padding-left: 0; }
@media (max-width: 30rem) { table { font-size: .9rem; } td, th { padding: .3rem; } }
img.chart { width: 100%; max-width: 32rem; height: auto; display: block; }
.curves { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.small { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fill, minmax(min(45%, 11rem), 1fr)); }
.faces { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); }
.maps { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); }
figure div { display: flex; gap: 2px; } figure div img { min-width: 0; flex: 1; }
figure { margin: 0; } figcaption { font-size: .8rem; overflow-wrap: anywhere; }
figure img { width: 100%; image-rendering: pixelated; display: block; }
"""


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
    results = read_results(folder, evaluation)
    sections = [_section("Evaluations", _evaluations(results), "wide")]
    if results.metrics:
        sections.append(_section("Training", _curves(results), "wide"))
    sections += [
        _section("Confusion matrix", _confusion(results)),
        _section("By class", _classes(results)),
        _section("Calibration", _reliability(results)),
        _section("Accuracy against coverage", _coverage(results)),
        _section("Under corruptions", _corruptions(results), "wide"),
    ]
    if data_dir is not None:
        network = _load_network(folder)
        sections += [
            _section("Surest mistakes", _mistakes(results, data_dir, network), "wide"),
            _section("Where it looks", _looks(results, data_dir, network), "wide"),
        ]
    result = results.chosen
    name = results.folder.resolve().name
    title = html.escape(f"{name}: {result['dataset']} {result['split']}")
    low, high = result["accuracy_ci95"]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style></head><body>\n"
        f"<h1>{title}</h1>\n"
        f"<p><strong>{result['accuracy']:.2%}</strong> of {result['n']:,} faces "
        f"classified correctly (95 % interval {low:.2%} to {high:.2%}), "
        f"{html.escape(_views(result))}. {html.escape(results.origin)}</p>\n"
        f'<main class="grid">\n{"".join(sections)}</main>\n</body></html>\n'
    )


def _views(result: dict[str, Any]) -> str:
    views = VIEW_NAMES.get(result["tta"], result["tta"])
    return f"{views}, unseen faces" if result["left_out"] else views


def _section(title: str, body: str, css_class: str = "") -> str:
    return f'<section class="{css_class}"><h2>{title}</h2>\n{body}\n</section>\n'


def _note(text: str) -> str:
    return f'<p class="note">{text}</p>'


def _code(command: str) -> str:
    return f"<code>{html.escape(command)}</code>"


def _table(title: str, head: list[str], rows: list[list[str]]) -> str:
    """Rows under headers; the first cell of each row is a header too."""

    def cells(tag: str, texts: list[str], scope: str = "") -> str:
        return "".join(f"<{tag}{scope}>{html.escape(x)}</{tag}>" for x in texts)

    lines = [cells("th", head, ' scope="col"')]
    lines += [cells("th", r[:1], ' scope="row"') + cells("td", r[1:]) for r in rows]
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return (
        f'<div class="scroll" role="region" aria-label="{html.escape(title)}" '
        f'tabindex="0"><table>{body}</table></div>'
    )


def _evaluations(results: Results) -> str:
    head = ["evaluated on", "accuracy", "95 % interval", "faces", "macro-F1"]
    head += ["balanced accuracy", "calibration error", "log-likelihood"]
    rows = [
        [
            f"{result['dataset']} {result['split']}, {_views(result)}",
            f"{result['accuracy']:.2%}",
            "{:.2%} to {:.2%}".format(*result["accuracy_ci95"]),
            f"{result['n']:,}",
            f"{result['macro_f1']:.2%}",
            f"{result['balanced_accuracy']:.2%}",
            f"{result['ece']:.2%}",
            f"{-result['nll']:.4f}",
        ]
        for result in results.evaluations.values()
    ]
    return _table("Evaluations", head, rows) + _note(
        f"In detail below: {html.escape(results.name)}."
    )


def _curves(results: Results) -> str:
    """Loss, accuracy and learning rate by step."""

    def line(name: str) -> tuple[list, list]:
        points = [(m["step"], m[name]) for m in results.metrics if name in m]
        return [step for step, _ in points], [value for _, value in points]

    loss = {"training": line("train/loss"), "validation": line("validation/nll")}
    accuracy = {
        "training": line("train/accuracy"),
        "validation": line("validation/accuracy"),
    }
    rate = {"learning rate": line("train/learning_rate")}
    charts = [
        figures.curves_figure("cross entropy", loss),
        figures.curves_figure("accuracy", accuracy),
        figures.curves_figure("learning rate", rate),
    ]
    return f'<div class="curves">{"".join(charts)}</div>'


def _confusion(results: Results) -> str:
    result = results.chosen
    return figures.confusion_figure(result["classes"], result["confusion_matrix"])


def _classes(results: Results) -> str:
    per_class = results.chosen["per_class"]
    head = ["class", "faces", "precision", "recall", "F1"]
    rows = [
        [name, f"{row['support']:,}"]
        + [f"{row[key]:.1%}" for key in ("precision", "recall", "f1")]
        for name, row in per_class.items()
    ]
    return figures.classes_figure(per_class) + _table("By class", head, rows)


def _reliability(results: Results) -> str:
    fit, series = results.calibration, results.probabilities()
    bins = {name: calibration_bins(p, results.labels) for name, p in series.items()}
    bins = bins or {"as evaluated": results.chosen["calibration_bins"]}
    errors = [f"{calibration_error(b):.2%} {name}" for name, b in bins.items()]
    text = f"Expected calibration error {', '.join(errors)}."
    if fit is None:
        folder = shlex.quote(str(results.folder))
        command = f"python scripts/export.py --workdir {folder} --out MODEL"
        text += f" No temperature was fitted: {_code(command)}."
    elif len(bins) == 2:
        faces = f"{fit['n']:,} faces of {html.escape(fit['split'])}"
        if same_faces(fit, results.chosen):
            faces += ", the ones shown here"
        text += f" Logits are divided by {fit['temperature']:.3f}, fitted on {faces}."
    return figures.reliability_figure(bins) + _note(text)


def _coverage(results: Results) -> str:
    fit, series = results.calibration, results.probabilities()
    if not series:
        return _note(
            f"No probabilities beside the numbers: {_code(results.command())}."
        )
    name, probabilities = list(series.items())[-1]
    label = results.labels
    _, coverage, accuracy = coverage_curve(probabilities, label)
    if fit is None or name != "calibrated":
        chart = figures.coverage_figure(coverage, accuracy, None)
        return chart + _note(f"Probabilities {name}; no threshold for <em>unsure</em>.")
    kept = probabilities.max(1) >= fit["threshold"]
    right = (probabilities.argmax(1) == label)[kept]
    mark = (kept.mean(), right.mean()) if kept.any() else None
    chart = figures.coverage_figure(coverage, accuracy, mark)
    share = (
        f"{right.mean():.1%} of those are classified correctly"
        if mark
        else "none is left"
    )
    return chart + _note(
        f"Faces below probability {fit['threshold']:.3f} are called unsure. Of these "
        f"{len(label):,} faces {kept.mean():.1%} are not, and {share}. It was "
        f"chosen for {fit['target_accuracy']:.0%} on {html.escape(fit['split'])}."
    )


def _corruptions(results: Results) -> str:
    corruptions = results.corruptions
    if corruptions is None:
        command = results.command("--corruptions")
        return _note(f"Not measured yet: {_code(command)}.")
    clean, levels = corruptions["clean_accuracy"], [0, *corruptions["severities"]]
    charts = [
        figures.corruption_figure(name, levels, [clean, *row])
        for name, row in corruptions["accuracy"].items()
    ]
    rows = [
        [name.replace("_", " "), *(f"{x:.1%}" for x in (clean, *row))]
        for name, row in corruptions["accuracy"].items()
    ]
    table = _table("Under corruptions", ["severity", *map(str, levels)], rows)
    return (
        _note(
            f"Accuracy by severity, 0 (none) to {levels[-1]}: {clean:.1%} without, "
            f"{corruptions['mean_corruption_accuracy']:.1%} on average with."
        )
        + f'<div class="small">{"".join(charts)}</div>'
        + f"<details><summary>The numbers</summary>{table}</details>"
    )


def _load_network(folder: str | os.PathLike) -> TrainedModel | None:
    """The network of an evaluated folder; a folder of results has none."""
    try:
        return load_trained(folder)
    except UserError:
        return None


def _looks(
    results: Results, data_dir: str | os.PathLike, network: TrainedModel | None
) -> str:
    """The mean face of each class, plain and under its mean maps."""
    if results.arrays is None or network is None:
        return _note("No network or no probabilities in this folder.")
    images, label = load_images(results, data_dir), results.arrays["label"]
    items = []
    for index, name in enumerate(results.chosen["classes"]):
        some = np.flatnonzero(label == index)[:_NUM_EXPLAINED]
        if len(some) == 0:
            continue
        maps = explain_faces(network, images[some], np.full(len(some), index))
        face = np.rint(images[some].mean(0)).astype(np.uint8)
        heats = [heat.mean(0) for heat in maps]
        items.append(_figure(face, heats, f"{name}, mean of {len(some)} faces"))
    return _note(_MAPS) + f'<div class="maps">{"".join(items)}</div>'


def _figure(
    face: np.ndarray, heats: Sequence[np.ndarray], caption: str, name: str = ""
) -> str:
    """A face, and the face under each map; caption and the face's name are text."""
    kinds = ["A face", "Grad-CAM", "Occlusion map"]
    pictures = [face.squeeze(), *(tint(face, heat) for heat in heats)]
    text = html.escape(caption)
    shown = "".join(
        f'<img alt="{kind}: {text}" src="{_data_uri(picture)}">'
        for kind, picture in zip(kinds, pictures, strict=False)
    )
    if name:
        text += f'<br><span class="note">{html.escape(name)}</span>'
    return f"<figure><div>{shown}</div><figcaption>{text}</figcaption></figure>"


def _mistakes(
    results: Results, data_dir: str | os.PathLike, network: TrainedModel | None
) -> str:
    """Pictures of the faces misclassified with the highest probability."""
    if results.arrays is None:
        return _note(
            f"No probabilities beside the numbers: {_code(results.command())}."
        )
    classes = results.chosen["classes"]
    probabilities, label = results.arrays["probabilities"], results.arrays["label"]
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != label)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:_NUM_MISTAKES]
    if len(wrong) == 0:
        return _note("Every face was classified correctly.")
    images = load_images(results, data_dir)
    maps: list = []
    if network is not None:
        maps = list(explain_faces(network, images[wrong], predicted[wrong]))
    items = [
        _figure(
            images[i],
            [heats[place] for heats in maps],
            f"{classes[label[i]]}, read as {classes[predicted[i]]} "
            f"({confidence[i]:.0%})",
            results.arrays["id"][i],
        )
        for place, i in enumerate(wrong)
    ]
    css_class = "maps" if maps else "faces"
    note = _note(_MAPS) if maps else ""
    return f'{note}<div class="{css_class}">{"".join(items)}</div>'


def _data_uri(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
