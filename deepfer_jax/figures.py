"""Figures of a report as SVG text, drawn by matplotlib, in the colours of the page.

    svg = confusion_figure(result["classes"], result["confusion_matrix"])

Each figure is drawn in placeholder colours that are then replaced by CSS variables
(`var(--ink)`, `var(--c0)`, ...), so that one drawing serves light and dark pages. Text
stays text.
"""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Placeholders, which no colour map produces, and the CSS variables they stand for.
INK, MUTED, FACE = "#010203", "#040506", "#070809"
SERIES = ("#0a0b0c", "#0d0e0f", "#101112")
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    FACE: "var(--face)",
    SERIES[0]: "var(--c0)",
    SERIES[1]: "var(--c1)",
    SERIES[2]: "var(--c2)",
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "deepfer_jax",
    "font.size": 11,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": FACE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": MUTED,
    "grid.alpha": 0.25,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": FACE,
}


def draw(
    name: str, size: tuple[float, float], plot: Callable[[Axes], None], title: str
) -> str:
    """Returns one figure as an <svg> element.

    Args:
      name: makes its ids its own among the figures of a page.
      size: width and height in inches of 72 pixels.
      plot: draws on the axes.
      title: what the picture shows, for those who do not see it.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        plot(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", svg, count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def curves_figure(
    name: str, title: str, label: str, lines: dict[str, tuple[list, list]]
) -> str:
    """Lines over the training steps: {name: (steps, values)}."""

    def plot(axes: Axes) -> None:
        for color, (series, (steps, values)) in zip(
            SERIES, lines.items(), strict=False
        ):
            axes.plot(steps, values, color=color, label=series)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        if len(lines) > 1:
            axes.legend()

    return draw(name, (5.2, 3.2), plot, title)


def confusion_figure(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """Counts, shaded by the share of the true class."""
    counts = np.asarray(matrix, float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def plot(axes: Axes) -> None:
        axes.grid(False)
        for row, column in np.ndindex(*counts.shape):
            share = shares[row, column]
            box = (column - 0.5, row - 0.5)
            axes.add_patch(
                matplotlib.patches.Rectangle(
                    box, 1, 1, facecolor=SERIES[0], alpha=0.08 + 0.62 * share, lw=0
                )
            )
            text = f"{counts[row, column]:,.0f}\n{share:.0%}"
            axes.text(column, row, text, ha="center", va="center", fontsize=9)
        ticks = range(len(classes))
        axes.set_xticks(ticks, classes, rotation=40, ha="right")
        axes.set_yticks(ticks, classes)
        axes.set_xlim(-0.5, len(classes) - 0.5)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")

    return draw("confusion", (5.6, 5.2), plot, "Confusion matrix")


def classes_figure(per_class: dict[str, dict[str, float]]) -> str:
    """Bars of precision, recall and F1 for each class."""
    places = np.arange(len(per_class))

    def plot(axes: Axes) -> None:
        for i, name in enumerate(("precision", "recall", "f1")):
            values = [row[name] for row in per_class.values()]
            axes.barh(
                places + 0.27 * (i - 1), values, 0.25, color=SERIES[i], label=name
            )
        axes.set_yticks(places, per_class)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=3)

    return draw("classes", (5.2, 4.4), plot, "Precision, recall and F1 by class")


def reliability_figure(series: dict[str, list[dict[str, float]]]) -> str:
    """Accuracy against confidence by bin: {name: calibration bins}."""

    def plot(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, ls="--", lw=1)
        for i, (name, bins) in enumerate(series.items()):
            kept = [b for b in bins if b["n"]]
            confidence = [b["confidence"] for b in kept]
            accuracy = [b["accuracy"] for b in kept]
            sizes = [6 + 120 * b["n"] / sum(b["n"] for b in kept) for b in kept]
            axes.plot(confidence, accuracy, color=SERIES[i], label=name)
            axes.scatter(confidence, accuracy, s=sizes, color=SERIES[i])
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
        axes.legend()

    return draw("reliability", (5.2, 4.4), plot, "Accuracy against confidence")


def coverage_figure(
    coverage: np.ndarray, accuracy: np.ndarray, calibration: dict[str, Any] | None
) -> str:
    """Accuracy of the surest faces, with the point where `unsure` begins."""

    def plot(axes: Axes) -> None:
        axes.plot(coverage, accuracy, color=SERIES[0])
        if calibration:
            place = calibration["coverage"], calibration["target_accuracy"]
            axes.scatter(*place, color=SERIES[1], zorder=3)
            axes.annotate(
                f"unsure below {calibration['threshold']:.2f}",
                place, (6, 6), textcoords="offset points",
            )  # fmt: skip
        low = min(accuracy[coverage > 0.02].min(), 0.9)
        axes.set(xlim=(0, 1), ylim=(low - 0.03, 1.005))
        axes.set(xlabel="faces kept", ylabel="accuracy of them")

    return draw("coverage", (5.2, 3.6), plot, "Accuracy against coverage")


def corruption_figure(name: str, clean: float, accuracies: Sequence[float]) -> str:
    """Accuracy under one corruption against its severity, 0 being none."""
    values = [clean, *accuracies]

    def plot(axes: Axes) -> None:
        axes.plot(range(len(values)), values, color=SERIES[0], marker="o", ms=4)
        axes.axhline(clean, color=MUTED, ls="--", lw=1)
        axes.set_title(name.replace("_", " "), fontsize=11)
        axes.set(ylim=(0, 1), xticks=range(len(values)))

    return draw(f"corruption-{name}", (2.6, 2.0), plot, f"Accuracy by severity: {name}")
