"""faces.pose: yaw and roll of a head in space, and what size and yaw cost."""

import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.faces.pose import geometric_causes, pose

# x right, y down, z towards the viewer: eyes, tip of the nose, mouth, ears; the nose as
# far before the ears' axis as each ear is from it.
HEAD = np.array(
    [[-3, -4, 8], [3, -4, 8], [0, 0, 10], [0, 4, 8.5], [-10, -1, 0], [10, -1, 0]], float
)


def seen(yaw, roll, scale=7.0):
    """Landmarks of the head, turned about the vertical axis, then in the picture."""
    a, b = np.deg2rad(yaw), np.deg2rad(roll)
    x = HEAD[:, 0] * np.cos(a) + HEAD[:, 2] * np.sin(a)
    y = HEAD[:, 1]
    points = [x * np.cos(b) - y * np.sin(b), x * np.sin(b) + y * np.cos(b)]
    return scale * np.stack(points, -1) + np.array([120.0, 80.0])


@pytest.mark.parametrize("roll", [-40, 0, 25])
@pytest.mark.parametrize("yaw", [-80, -45, -10, 0, 30, 60])
def test_the_angles_of_a_turned_head(yaw, roll):
    found = pose(jnp.asarray(seen(yaw, roll))[None])
    np.testing.assert_allclose(np.concatenate(found), [yaw, roll], atol=1e-3)


def test_landmarks_in_one_place_have_no_angle():
    assert [float(x[0]) for x in pose(jnp.full((1, 6, 2), 3.0))] == [0.0, 0.0]


def test_half_is_lost_at_twenty_pixels_and_at_forty_five_degrees():
    boxes = jnp.array([[0, 0, 20, 16], [5, 5, 45, 105], [0, 0, 10, 10.0]])
    found = geometric_causes(boxes, jnp.array([0.0, -45.0, 90.0]))
    np.testing.assert_allclose(found, [[0.5, 0], [0, 0.5], [0.75, 1]])
