"""faces.framing: what was measured is what exports use, and measuring works."""

import json
import pathlib

from measuring.framing import MARGINS, OFFSETS, measure_framing

from deepfer_jax.data import datasets
from deepfer_jax.export import FRAMINGS
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.inference import DEFAULT_MODEL
from deepfer_jax.runs.trained import load_trained

RESULTS = pathlib.Path(__file__).parents[2] / "results"


def test_exports_use_what_was_measured():
    kept = json.loads((RESULTS / "framing.json").read_text())
    best = {row["detector"]: row["best"] for row in kept}
    assert {name: f._asdict() for name, f in FRAMINGS.items()} == best
    shipped = Analyzer().metadata["faces"]["detectors"]
    assert {name: about["framing"] for name, about in shipped.items()} == best
    for row in kept:
        chosen = max(row["rows"], key=lambda r: r["accuracy"])
        assert {name: chosen[name] for name in ("margin", "offset")} == row["best"]


def test_measuring(small_data_dir):
    """On drawn faces, few of which the detector takes for faces."""
    builder = datasets.load_builder("synthetic_faces/small", small_data_dir)
    trained = load_trained(DEFAULT_MODEL)
    result = measure_framing(trained, builder, "test", "full")
    assert result["n"] == 140
    assert 0 < result["recall"] <= 1
    assert len(result["rows"]) == len(MARGINS) * len(OFFSETS)
    assert all(0 <= row["accuracy"] <= 1 for row in result["rows"])
