"""tiles: every face of a large picture once, where it is, whichever tile saw it."""

import numpy as np
import pytest
from PIL import Image

from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.photos import find_faces
from deepfer_jax.faces.tiles import find_in_tiles, merge_faces, tile_levels
from tests import photos

WIDTH, HEIGHT = 1600, 1000


def make_face(x, y, half, score):
    box = np.array([x - half, y - half, x + half, y + half], np.float32)
    landmarks = np.full((6, 2), (x, y), np.float32)
    happy = np.eye(7, dtype=np.float32)[3]
    return Face(box, score, landmarks, "happy", 1.0, happy, False)


class Seeing:
    """Sees a face where a pixel is not 0, if it is large enough for the frame.

    The pixel's value is half the face's width; a face cut by the frame is seen too, but
    surer, so that it would win if it were not left out.
    """

    def analyze(self, frames):
        frames = frames if frames.ndim == 4 else frames[None]
        return [self._look(frame) for frame in frames]

    def _look(self, frame):
        height, width = frame.shape[:2]
        found = []
        for y, x in zip(*np.nonzero(frame[..., 0]), strict=True):
            half = int(frame[y, x, 0])
            if 2 * half < 0.05 * max(height, width):
                continue
            cut = x < half or y < half or x + half > width or y + half > height
            found.append(make_face(x, y, half, 0.99 if cut else 0.9))
        return found


def picture_of(places):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for x, y, half in places:
        image[y, x] = half
    return image


def test_small_and_large_faces_are_found_once_where_they_are():
    rng = np.random.default_rng(0)
    grid = [(x, y) for x in range(60, 1560, 110) for y in range(60, 980, 110)]
    places = [(x, y, int(rng.integers(9, 50))) for x, y in grid]
    found = find_in_tiles(Seeing(), picture_of(places))
    centres = {
        tuple(np.round(face.box.reshape(2, 2).mean(0)).astype(int)) for face in found
    }
    assert len(found) == len(places) == 126
    assert centres == {(x, y) for x, y, _ in places}
    for face in found:
        middle = face.box.reshape(2, 2).mean(0)
        np.testing.assert_allclose(face.landmarks, np.tile(middle, (6, 1)), atol=1e-3)
        assert face.score == 0.9


def test_a_face_at_the_picture_s_own_edge_is_kept():
    found = find_in_tiles(Seeing(), picture_of([(2, 500, 40), (1590, 990, 40)]))
    assert len(found) == 2


@pytest.mark.parametrize(("width", "height"), [(1600, 1000), (900, 901), (400, 3000)])
def test_levels_cover_the_picture_in_tiles_of_one_shape(width, height):
    levels = list(tile_levels(width, height))
    assert len(levels) == 2
    for level in levels:
        seen = np.zeros((height, width), int)
        for tile in level:
            seen[
                tile.top : tile.top + tile.height, tile.left : tile.left + tile.width
            ] += 1
            assert (tile.width, tile.height) == level[0][2:]
        assert seen.min() >= 1
        assert sum(t.width * t.height for t in level) == seen.sum()


def test_a_crowd_is_found_by_what_ships_and_each_face_once():
    """Fifty faces, more than one frame's sixteen, 40 pixels wide and smaller."""
    face = Image.fromarray(photos.photo("astronaut")[20:220, 120:320])
    crowd = Image.new("RGB", (1600, 1000), (110, 115, 120))
    places = [(x, y) for x in range(40, 1560, 160) for y in range(40, 960, 190)]
    for x, y in places:
        crowd.paste(face.resize((90, 90), Image.Resampling.BOX), (x, y))
    image = np.asarray(crowd)
    analyzer = Analyzer()
    assert len(analyzer.analyze(image)[0]) <= 16
    found = find_faces(analyzer, image)
    middles = np.array([f.box.reshape(2, 2).mean(0) for f in found])
    nearest = np.abs(middles[:, None] - np.array(places) - 45).max(2)
    assert (nearest.min(1) < 25).all()  # each is a face
    assert len(set(nearest.argmin(1))) == len(found) >= 0.9 * len(places)
    assert np.mean([f.label == "happy" for f in found]) > 0.9


def test_small_pictures_have_no_tiles():
    assert list(tile_levels(320, 240)) == []


def test_of_two_boxes_on_one_face_the_surer_stays():
    one, same = make_face(100, 100, 30, 0.7), make_face(108, 100, 25, 0.8)
    other = make_face(150, 100, 30, 0.6)
    assert [face.score for face in merge_faces([one, same, other])] == [0.8, 0.6]
