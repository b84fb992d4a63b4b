"""faces.recall: faces lie where it says, and what was kept is what the text says."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")
pytest.importorskip("skimage")

from measuring import recall
from measuring.recall import View, load_photos, measure_recall, render

RESULTS = pathlib.Path(__file__).parents[2] / "results"


@pytest.mark.parametrize(
    "view",
    [View(), View(40), View(300), View(tilt=30), View(edge=True), View(light=0.5)],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_face_lies_where_it_says(view, place):
    """A blue photo with a red square for a face."""
    photo = Image.new("RGB", (400, 300), (0, 0, 255))
    photo.paste((255, 0, 0), (100, 50, 200, 150))
    frame, box = render(photo, (100, 50, 200, 150), view, place)
    red = (frame[..., 0] > 90 * view.light) & (frame[..., 2] < 60 * view.light)
    rows, columns = np.nonzero(red)
    clipped = np.clip(box, 0, [640, 480, 640, 480])
    if view.tilt:
        centre = [(columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2]
        np.testing.assert_allclose(centre, (box[:2] + box[2:]) / 2, atol=2)
    else:
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(edges, clipped, atol=3)
    whole = (clipped[2:] - clipped[:2]).prod()
    assert red.sum() == pytest.approx(whole, rel=0.1)
    assert whole == pytest.approx(view.width**2 * (0.75 if view.edge else 1))
    assert frame.max() == pytest.approx(255 * view.light, abs=1)


def test_what_was_kept_is_measured_again(monkeypatch):
    """One width, one tilt and one light of `short`."""
    kept = json.loads((RESULTS / "detectors.json").read_text())["recall"][0]
    for name, value in (("_WIDTHS", (80,)), ("_TILTS", (30,)), ("_LIGHTS", (0.25,))):
        monkeypatch.setattr(recall, name, value)
    found = measure_recall("short")
    for key, name in (("width", "80"), ("tilt", "30"), ("light", "0.25")):
        assert found[key][name] == pytest.approx(kept[key][name], abs=0.1)
    assert found["faces"] == kept["faces"] == 16 * len(load_photos())


def test_smoothing_steadies_labels():
    flicker = json.loads((RESULTS / "detectors.json").read_text())["flicker"]
    assert flicker["after"] < flicker["before"] / 5
    assert set(flicker["photos"]) == set(load_photos())
