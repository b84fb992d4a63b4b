"""evaluate: the views of test-time augmentation, beside Pillow."""

import numpy as np
from PIL import Image

from deepfer_jax.evaluation.predict import VIEWS


def test_views_of_test_time_augmentation():
    images = np.random.default_rng(0).random((2, 48, 48, 1)).astype(np.float32)
    assert VIEWS["none"](images).shape == (1, 2, 48, 48, 1)
    flips = VIEWS["flip"](images)
    np.testing.assert_array_equal(flips[1], images[:, :, ::-1])
    ten = np.asarray(VIEWS["ten_crop"](images))
    assert ten.shape == (10, 2, 48, 48, 1)
    np.testing.assert_array_equal(ten[5:], ten[:5, :, :, ::-1])
    corner = Image.fromarray(images[0, :44, :44, 0]).resize((48, 48), Image.BILINEAR)
    np.testing.assert_allclose(ten[0, 0, :, :, 0], np.asarray(corner), atol=1e-5)
    centre = Image.fromarray(images[1, 2:46, 2:46, 0]).resize((48, 48), Image.BILINEAR)
    np.testing.assert_allclose(ten[4, 1, :, :, 0], np.asarray(centre), atol=1e-5)
