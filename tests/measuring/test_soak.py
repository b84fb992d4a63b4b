"""demo.soak at a size of seconds, and that it sees what fails."""

import copy
import json

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("psutil")
pytest.importorskip("skimage")
pytest.importorskip("websockets")

from measuring.bad_inputs import Input, Tally, claim_size, encode, make_inputs
from measuring.soak import find_failures

from deepfer_jax.data.images import ImageError, decode_image


def test_all_of_it_holds_for_seconds(run_python, tmp_path):
    sizes = ("--seconds", 3, "--frames", 300, "--inputs", 240)
    run_python("scripts/soak.py", *sizes, "--out", tmp_path / "soak.json")
    document = json.loads((tmp_path / "soak.json").read_text())
    assert not list(find_failures(document))
    document["attacked"]["memory"].update(growth=0.0)  # of seconds it says nothing
    clients, video = document["clients"], document["video"]
    attacked = document["attacked"]
    assert attacked["answers"] > 50
    assert attacked["stop_seconds"] < 5
    assert attacked["memory"]["most_mib"] < 1500
    assert len(attacked["attacks"]) == 17
    assert clients["answers"] > 16
    assert clients["memory"]["end_mib"] > 50
    assert (video["frames"], video["faces"]) == (300, 300)
    for part in document["bad_inputs"].values():
        assert part["refused"] + part["read"] == 240
        assert part["refused"] > 2 * part["read"] > 0
        assert part["good_frames"] == {"answered": 2, "failed": 0}

    for change in (
        lambda d: d["clients"].update(errors=1),
        lambda d: d["clients"].update(seconds=60, memory={"growth": 0.03}),
        lambda d: d["attacked"].update(errors=1),
        lambda d: d["attacked"].update(seconds=60, p95_ms=151.0),
        lambda d: d["attacked"].update(stop_seconds=5.1),
        lambda d: d["attacked"]["memory"].update(most_mib=1501.0),
        lambda d: d["video"].update(faces=299),
        lambda d: d["video"].update(failed=1),
        lambda d: d["bad_inputs"]["http"].update(failed=1),
        lambda d: d["bad_inputs"]["predict"]["good_frames"].update(failed=1),
    ):
        broken = copy.deepcopy(document)
        change(broken)
        assert len(list(find_failures(broken))) == 1


@pytest.mark.parametrize(
    ("answer", "refused", "outcome"),
    [
        ({"error": "no"}, True, "refused"),
        ({"error": "no"}, None, "refused"),
        ({"error": "no"}, False, "failed"),
        ({"faces": []}, False, "read"),
        ({"faces": []}, None, "read"),
        ({"faces": []}, True, "failed"),
        ({"faces": [], "error": "no"}, None, "failed"),
        ({}, None, "failed"),
        (None, True, "failed"),
    ],
)
def test_what_came_of_an_input(answer, refused, outcome):
    tally = Tally()
    tally.add(Input("kind", b"", refused), answer)
    assert tally.describe()[outcome] == 1
    assert tally.describe()["kinds"] == {"kind": {outcome: 1}}


def test_a_good_frame_has_one_happy_face():
    tally = Tally()
    happy, sad = {"label": "happy"}, {"label": "sad"}
    for faces in ([happy], [sad], [], [happy, happy]):
        tally.add_good({"faces": faces})
    tally.add_good(None)
    assert tally.describe()["good_frames"] == {"answered": 1, "failed": 4}


def test_inputs_come_again_and_are_what_they_are_called():
    inputs = list(make_inputs(48))
    assert inputs == list(make_inputs(48))
    assert len({item.kind for item in inputs}) == 12
    for item in inputs:
        if item.refused:
            with pytest.raises(ImageError):
                decode_image(item.data, 10**6)
        elif item.refused is False:
            assert decode_image(item.data, 10**6).dtype == np.uint8


def test_a_false_size_is_a_whole_header():
    """Pillow believes it, and looks in vain for the pixels."""
    png = encode(np.zeros((8, 8), np.uint8), "PNG")
    assert claim_size(png, 8, 8) == png
    with pytest.raises(ImageError, match="not a whole image"):
        decode_image(claim_size(png, 300, 200), 10**6)
    with pytest.raises(ImageError, match="3000 x 2000 pixels, more than"):
        decode_image(claim_size(png, 3000, 2000), 10**6)
