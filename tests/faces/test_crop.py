"""faces.crop: beside Pillow's transforms, tilted faces, edges, which frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from deepfer_jax.faces.crop import Framing, crop_faces

SHAPE = (48, 48, 1)
WHOLE_BOX = Framing()


def smooth(height=240, width=320, seed=0):
    """A picture without fine detail, so that sampling has nothing to lose."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def crop(frame, box, eyes=((0, 0), (1, 0)), framing=WHOLE_BOX, shape=SHAPE):
    return np.asarray(
        jax.jit(crop_faces, static_argnums=(4, 6))(
            frame[None],
            jnp.zeros(1, jnp.int32),
            jnp.asarray([box], jnp.float32),
            jnp.asarray([eyes], jnp.float32),
            framing,
            jnp.asarray(frame.shape[:2]),
            shape,
        )
    )[0]


@pytest.mark.parametrize("side", [48, 96, 200])
def test_an_upright_face_is_what_pillow_cuts_out(side):
    frame = smooth()
    left, top = 60, 20
    expected = (
        Image.fromarray(frame)
        .convert("L")
        .crop((left, top, left + side, top + side))
        .resize((48, 48), Image.Resampling.BOX)
    )
    found = crop(frame, (left, top, left + side, top + side))[..., 0]
    assert np.abs(found - np.asarray(expected, float)).max() <= 5


@pytest.mark.parametrize("degrees", [-30, 10, 45])
def test_a_tilted_face_is_turned_upright(degrees):
    """Pillow turns the picture; the crop turns it back by the eyes."""
    frame = smooth(300, 300)
    turned = np.asarray(
        Image.fromarray(frame).rotate(degrees, Image.Resampling.BICUBIC)
    )
    angle = np.deg2rad(-degrees)  # Pillow's is counter-clockwise
    across = np.array([np.cos(angle), np.sin(angle)])
    box = (90, 90, 210, 210)  # around the centre, about which Pillow turns
    eyes = np.stack([150 - 30 * across, 150 + 30 * across])
    difference = crop(frame, box).astype(float) - crop(turned, box, eyes)
    assert np.abs(difference).max() <= 6


def test_margin_and_offset():
    frame = smooth()
    framing = Framing(margin=1.5, offset=0.1)
    # Twice the size of the box of 80, its centre a tenth of 120 further down.
    expected = crop(frame, (100, 72, 220, 192))
    np.testing.assert_array_equal(
        crop(frame, (120, 80, 200, 160), framing=framing), expected
    )


def test_outside_of_the_frame_is_its_edge():
    frame = np.zeros((100, 120, 3), np.uint8)
    frame[:, -1] = 200
    found = crop(frame, (100, 20, 196, 116))[..., 0]
    assert (found[:, 12:] == 200).all()
    assert (found[:, :9] == 0).all()
    # Of a padded frame too: the true size counts.
    padded = np.pad(frame, ((0, 28), (0, 40), (0, 0)), constant_values=255)
    box, eyes = jnp.asarray([[100.0, 20, 196, 116]]), jnp.asarray([[[0.0, 0], [1, 0]]])
    arguments = (jnp.zeros(1, jnp.int32), box, eyes, Framing())
    again = crop_faces(
        jnp.asarray(padded[None]), *arguments, jnp.array([100, 120]), SHAPE
    )
    np.testing.assert_array_equal(again[0, ..., 0], found)


def test_colour_order_and_frames():
    """Each face is cut from its own frame; channels stay red, green, blue."""
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[0] = (10, 20, 30)
    frames[1] = (200, 100, 50)
    boxes = jnp.asarray([[8.0, 8, 56, 56]] * 2)
    eyes = jnp.asarray([[[0.0, 0], [1, 0]]] * 2)
    size, index = jnp.array([64, 64]), jnp.array([1, 0])
    arguments = (jnp.asarray(frames), index, boxes, eyes, Framing(), size)
    color = crop_faces(*arguments, (48, 48, 3))
    assert (np.asarray(color[0]) == [200, 100, 50]).all()
    assert (np.asarray(color[1]) == [10, 20, 30]).all()
    gray = crop_faces(*arguments, SHAPE)
    assert (gray[0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()


def test_eyes_in_one_place_leave_the_face_as_it_is():
    frame = smooth()
    box = (60, 20, 156, 116)
    same = crop(frame, box, eyes=((5, 5), (5, 5)))
    np.testing.assert_array_equal(same, crop(frame, box))
