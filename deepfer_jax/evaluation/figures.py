"""Figures of a report as HTML images, drawn by matplotlib.

    image = confusion_figure(result["classes"], result["confusion_matrix"])

Each is an <img> that holds its SVG drawing and needs no other file. Its colours are of
middling lightness on no background, so that they suit a light and a dark page alike.
"""

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# 4.2 times as light or dark as the pages, #fff and #15181c.
INK = "#757d88"
SERIES = ("#2b8cc4", "#d55e00", "#1b9e77")
_WIDTH = 4.6  # Inches: on a phone, text of 11 points is then some 11 pixels high.
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "deepfer_jax",
    "font.size": 11,
    "font.family": "sans-serif",
    "text.parse_math": False,  # Classes are named by users: a $ is a $.
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
}


def draw(size: tuple[float, float], plot: Callable[[Axes], None], label: str) -> str:
    """Returns one figure as an <img> element.

    Args:
      size: width and height in inches of 72 pixels.
      plot: draws on the axes.
      label: what the picture shows, with its numbers, for those who do not see it.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        plot(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    return f'<img class="chart" alt="{html.escape(label)}" src="{source}">'


def curves_figure(label: str, lines: dict[str, tuple[list, list]]) -> str:
    """Lines over the training steps: {series: (steps, values)}."""
    lines = {series: line for series, line in lines.items() if line[0]}

    def plot(axes: Axes) -> None:
        for color, (series, (steps, values)) in zip(
            SERIES, lines.items(), strict=False
        ):
            marker = "o" if len(steps) == 1 else None  # A line of one point is none.
            axes.plot(steps, values, color=color, marker=marker, label=series)
        axes.set_xlabel("step")
        axes.locator_params(axis="x", nbins=4)  # five digits each, side by side
        axes.set_ylabel(label)
        if len(lines) > 1:
            axes.legend()

    ends = [
        f"{series} {values[0]:.3g} at step {steps[0]}, {values[-1]:.3g} at {steps[-1]}"
        for series, (steps, values) in lines.items()
    ]
    return draw((_WIDTH, 3.2), plot, f"{label} by step: {'; '.join(ends)}")


def confusion_figure(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """Counts and shares of the true class, shaded by these."""
    counts = np.asarray(matrix, float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def plot(axes: Axes) -> None:
        axes.grid(False)
        for row, column in np.ndindex(*counts.shape):
            share = shares[row, column]
            box = (column - 0.5, row - 0.5)
            axes.add_patch(
                matplotlib.patches.Rectangle(
                    box, 1, 1, facecolor=SERIES[0], alpha=0.05 + 0.95 * share, lw=0
                )
            )
            text = f"{counts[row, column]:,.0f}\n{share:.0%}"
            color = "white" if share > 0.4 else INK
            axes.text(
                *(column, row, text), color=color, ha="center", va="center", fontsize=9
            )
        ticks = range(len(classes))
        axes.set_xticks(ticks, classes, rotation=40, ha="right")
        axes.set_yticks(ticks, classes)
        axes.set_xlim(-0.5, len(classes) - 0.5)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    rows = []
    for name, row in zip(classes, shares, strict=True):
        parts = zip(row, classes, strict=True)
        read = ", ".join(f"{share:.0%} as {other}" for share, other in parts if share)
        rows.append(f"{name} {read}")
    side = max(_WIDTH, 1.2 + 0.48 * len(classes))
    label = f"True classes and how they were read: {'; '.join(rows)}"
    return draw((side, side), plot, label)


def classes_figure(per_class: dict[str, dict[str, float]]) -> str:
    """Bars of precision, recall and F1 for each class."""
    places = np.arange(len(per_class))
    series = {"precision": "precision", "recall": "recall", "f1": "F1"}

    def plot(axes: Axes) -> None:
        for i, (key, name) in enumerate(series.items()):
            values = [row[key] for row in per_class.values()]
            axes.barh(
                places + 0.27 * (i - 1), values, 0.25, color=SERIES[i], label=name
            )
        axes.set_yticks(places, per_class)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.figure.legend(loc="outside upper center", ncols=3)

    size = (_WIDTH, 1 + 0.48 * len(per_class))
    label = "Precision, recall and F1 by class; the table below holds the numbers"
    return draw(size, plot, label)


def reliability_figure(series: dict[str, list[dict[str, float]]]) -> str:
    """Accuracy against confidence by bin: {name: calibration bins}."""
    series = {name: [b for b in bins if b["n"]] for name, bins in series.items()}

    def plot(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, ls="--", lw=1)
        for i, (name, bins) in enumerate(series.items()):
            confidence = [b["confidence"] for b in bins]
            accuracy = [b["accuracy"] for b in bins]
            sizes = [6 + 120 * b["n"] / sum(b["n"] for b in bins) for b in bins]
            axes.plot(confidence, accuracy, color=SERIES[i], label=name)
            axes.scatter(confidence, accuracy, s=sizes, color=SERIES[i])
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
        axes.legend()

    points = [
        f"{name} "
        + ", ".join(f"{b['accuracy']:.0%} at {b['confidence']:.0%}" for b in bins)
        for name, bins in series.items()
    ]
    label = f"Accuracy against confidence: {'; '.join(points)}"
    return draw((_WIDTH, 4.0), plot, label)


def coverage_figure(
    coverage: np.ndarray, accuracy: np.ndarray, mark: tuple[float, float] | None
) -> str:
    """Accuracy of the surest faces, with the point where `unsure` begins."""

    def plot(axes: Axes) -> None:
        axes.plot(coverage, accuracy, color=SERIES[0])
        if mark:
            axes.scatter(*mark, color=SERIES[1], zorder=3)
            axes.annotate("unsure →", mark, (6, 6), textcoords="offset points")
        # The first few faces alone would set the scale otherwise.
        low = min(accuracy[coverage > 0.02].min(), 0.9)
        axes.set(xlim=(0, 1), ylim=(low - 0.03, 1.005))
        axes.set(xlabel="faces kept", ylabel="accuracy of them")

    points = [
        f"{accuracy[np.searchsorted(coverage, share)]:.0%} of the surest {share:.0%}"
        for share in (0.25, 0.5, 0.75, 1.0)
    ]
    label = f"Accuracy against coverage: {', '.join(points)}"
    return draw((_WIDTH, 4.0), plot, label)


def corruption_figure(
    name: str, severities: Sequence[int], accuracies: Sequence[float]
) -> str:
    """Accuracy under one corruption against its severity, 0 being none."""
    title = name.replace("_", " ")

    def plot(axes: Axes) -> None:
        axes.plot(severities, accuracies, color=SERIES[0], marker="o", ms=4)
        axes.axhline(accuracies[0], color=INK, ls="--", lw=1)
        axes.set_title(title, fontsize=11)
        axes.set(ylim=(0, 1), xticks=severities, yticks=(0, 0.5, 1))

    values = ", ".join(f"{x:.0%}" for x in accuracies)
    label = f"Accuracy under {title}, severity 0 to {severities[-1]}: {values}"
    return draw((2.3, 1.9), plot, label)
