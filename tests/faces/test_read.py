"""deepfer_jax.read: whatever a photograph is given as, the same faces."""

import numpy as np
import pytest
from PIL import Image

import deepfer_jax
from deepfer_jax.errors import UserError
from deepfer_jax.faces.boxes import intersection
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.photos import _Box, _find_place, draw_faces
from tests import photos


@pytest.fixture(scope="module")
def smiling():
    return photos.photo("astronaut")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, smiling):
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(smiling).save(folder / "a.png")
    Image.fromarray(np.full((90, 120, 3), 99, np.uint8)).save(folder / "b.png")
    return folder


def test_every_kind_of_photograph_gives_the_same_faces(folder, smiling):
    expected = deepfer_jax.read(folder / "a.png")
    assert [face.label for face in expected] == ["happy"]
    assert expected.source == str(folder / "a.png")
    for photo in (str(folder / "a.png"), Image.fromarray(smiling), smiling):
        (face,) = deepfer_jax.read(photo)
        np.testing.assert_array_equal(face.box, expected[0].box)
    gray = smiling[..., 1]
    assert len(deepfer_jax.read(gray)) == len(deepfer_jax.read(gray[..., None])) == 1


def test_folders_and_lists_give_a_list_each(folder, smiling):
    for photographs in (folder, [smiling, folder / "b.png"], iter([smiling, smiling])):
        found = deepfer_jax.read(photographs)
        assert isinstance(found, deepfer_jax.Photos)
        assert len(found) == 2
        assert len(found[0]) == 1


def test_a_table_has_a_row_a_face(folder):
    pytest.importorskip("pandas")
    table = deepfer_jax.read(folder).to_dataframe()
    assert list(table["label"]) == ["happy"]
    assert table["file"][0].endswith("a.png")
    assert len(deepfer_jax.read(folder / "b.png").to_dataframe()) == 0


def test_what_is_no_photograph_is_named(smiling, tmp_path):
    with pytest.raises(UserError, match="addresses are not fetched"):
        deepfer_jax.read("https://example.org/a.jpg")
    with pytest.raises(UserError, match=r"found float64 \[512, 512, 3\]"):
        deepfer_jax.read(smiling / 255)
    with pytest.raises(UserError, match=r"none\.jpg"):
        deepfer_jax.read(tmp_path / "none.jpg")
    with pytest.raises(UserError, match="those that ship"):
        deepfer_jax.read(smiling, model="huge")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = deepfer_jax.nothing


def make_face(left, top, side=60.0, unsure=False):
    box = np.array([left, top, left + side, top + side], np.float32)
    probabilities = np.eye(7, dtype=np.float32)[3]
    return Face(box, 0.9, np.zeros((6, 2)), "happy", 1.0, probabilities, unsure)


CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.mark.parametrize("bars", [False, True])
def test_tags_cover_no_other_face(bars):
    """Of a row of faces under each other and beside each other."""
    faces = [make_face(x, y) for y in (80, 240, 400) for x in (60, 260, 460)]
    image = np.full((560, 640, 3), 128, np.uint8)
    picture = np.asarray(draw_faces(image, faces, CLASSES, bars)).astype(int)
    for face in faces:
        left, top, right, bottom = face.box.astype(int)
        inner = picture[top + 12 : bottom - 12, left + 12 : right - 12]
        assert (inner == 128).all()
    assert (picture != 128).any(-1).mean() > 0.02


def test_a_tag_goes_where_nothing_is_covered():
    box = _Box(100, 100, 160, 160)
    above = _find_place((640, 480), box, [], 90, 20)
    assert (above.bottom, above.left) == (100, 100)
    crowded = [_Box(80, 60, 180, 99)]
    place = _find_place((640, 480), box, crowded, 90, 20)
    assert not any(intersection(np.array(place), np.array(other)) for other in crowded)
    at_the_top = _find_place((640, 480), _Box(100, 2, 160, 62), [], 90, 20)
    assert at_the_top.top >= 0


def test_an_unsure_box_is_dashed():
    image = np.zeros((200, 200, 3), np.uint8)
    filled = {}
    for unsure in (False, True):
        face = make_face(60, 80, 80, unsure)
        picture = np.asarray(draw_faces(image, [face], CLASSES))
        filled[unsure] = (picture[158:162, 60:140].max(-1) > 0).any(0).mean()
    assert filled[False] == 1
    assert 0.4 < filled[True] < 0.75
