"""faces.framing: what was measured is what exports use, and measuring works."""

import json
import pathlib

import numpy as np
import pytest
from measuring.framing import (
    BACKGROUNDS,
    MARGINS,
    OFFSETS,
    choose,
    make_textures,
    measure_framing,
)

from deepfer_jax.data import datasets
from deepfer_jax.export import FRAMINGS
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.inference import DEFAULT_MODEL
from deepfer_jax.runs.trained import load_trained

RESULTS = pathlib.Path(__file__).parents[2] / "results"


def test_exports_use_what_was_measured():
    kept = json.loads((RESULTS / "framing.json").read_text())
    assert {row["background"] for row in kept} == set(BACKGROUNDS)
    for name, framing in FRAMINGS.items():
        assert choose([row for row in kept if row["detector"] == name]) == framing
    best = {name: framing._asdict() for name, framing in FRAMINGS.items()}
    shipped = Analyzer().metadata["faces"]["detectors"]
    assert {name: about["framing"] for name, about in shipped.items()} == best


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_measuring(small_data_dir, background):
    """On drawn faces, few of which the detector takes for faces."""
    builder = datasets.load_builder("synthetic_faces/small", small_data_dir)
    trained = load_trained(DEFAULT_MODEL)
    result = measure_framing(trained, builder, "test", "full", background)
    assert result["n"] == 140
    assert 0 < result["recall"] <= 1
    assert len(result["rows"]) == len(MARGINS) * len(OFFSETS)
    assert all(0 <= row["accuracy"] <= 1 for row in result["rows"])


def test_textures_are_smooth_as_photographs_are():
    textures = make_textures(np.random.default_rng(0), 20, 96)[..., 0].astype(float)
    near = np.abs(np.diff(textures, axis=2)).mean()
    far = np.abs(textures[:, :, 48:] - textures[:, :, :-48]).mean()
    assert near < far / 2
    assert textures.std((1, 2)).min() > 10


def test_the_best_of_several_backgrounds_is_best_on_average():
    def result(*accuracies):
        margins = (1.0, 1.1, 1.2)
        rows = [
            {"margin": m, "offset": 0.0, "accuracy": a}
            for m, a in zip(margins, accuracies, strict=True)
        ]
        return {"rows": rows}

    assert choose([result(0.7, 0.6, 0.1), result(0.1, 0.5, 0.7)]).margin == 1.1
