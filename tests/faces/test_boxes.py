"""faces.boxes by hand, for both libraries of arrays."""

import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.faces.boxes import overlap, shared

BOXES = [[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 9, 9], [2, 2, 4, 4]]


@pytest.mark.parametrize("xp", [np, jnp])
def test_overlap_of_every_pair(xp):
    boxes = xp.asarray(BOXES, xp.float32)
    found = overlap(boxes[:, None], boxes[None], xp)
    np.testing.assert_allclose(found[0], [1, 50 / 150, 0, 4 / 100], rtol=1e-6)
    np.testing.assert_allclose(found, np.asarray(found).T)


def test_shared_is_of_the_smaller_box():
    boxes = np.asarray(BOXES, np.float32)
    np.testing.assert_allclose(shared(boxes[0], boxes[[0, 1, 3]]), [1, 0.5, 1])
