"""occlusion: by hand on a model that looks at one place, and what the maps show."""

import numpy as np
import pytest

from deepfer_jax.occlusion import hide_patches, occlusion_map, tint


def predict(faces):
    """Class 0 is as likely as the square of 6 pixels at (12, 24) is bright."""
    bright = faces[:, 12:18, 24:30, 0].mean((1, 2)) / 255
    return np.stack([bright, 1 - bright], 1)


@pytest.fixture
def face():
    face = np.zeros((48, 48, 1), np.uint8)
    face[12:18, 24:30] = 255
    return face


def test_patches_cover_every_pixel_and_hide_under_the_mean(face):
    hidden, places = hide_patches(face)
    assert hidden.shape == (121, 48, 48, 1)
    assert places.any(0).all()
    assert (places.sum((1, 2)) == 12 * 12).all()
    mean = round(255 * 36 / 48**2)
    for picture, place in zip(hidden, places, strict=True):
        assert (picture[place] == mean).all()
        np.testing.assert_array_equal(picture[~place], face[~place])


def test_the_map_is_where_the_model_looks(face):
    heat = occlusion_map(predict, face, 0)
    # One patch hides the square wholly: 255 becomes 4.
    assert 0.3 < heat.max() <= 1 - 4 / 255
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 12 <= row < 18
    assert 24 <= column < 30
    far = np.ones((48, 48), bool)
    far[0:30, 12:42] = False  # a patch that touches the square reaches so far
    assert np.abs(heat[far]).max() < 1e-6
    np.testing.assert_allclose(occlusion_map(predict, face, 1), -heat, atol=1e-6)


def test_one_pixel_by_hand(face):
    """Of the patches that hide a pixel, the mean of what each takes."""
    hidden, places = hide_patches(face)
    row, column = 20, 20
    falls = 1 - predict(hidden)[:, 0]
    expected = falls[places[:, row, column]].mean()
    assert abs(occlusion_map(predict, face, 0)[row, column] - expected) < 1e-6
    assert expected > 0


def test_red_is_for_and_blue_against():
    face = np.full((2, 2, 1), 100, np.uint8)
    picture = tint(face, np.array([[1.0, -0.5], [0.0, 0.0]])).astype(int)
    assert picture[0, 0, 0] > picture[0, 0, 2] + 50
    assert picture[0, 1, 2] > picture[0, 1, 0] + 20
    assert (picture[1] == 100).all()
