"""faces.program: faces are read where they are, in as few crops as there are faces."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.faces.crop import Framing
from deepfer_jax.faces.program import Detections, make_analyze

NUM_PLACES, SIDE = 16, 16


def detect(frames, size):
    """Finds the 16x16 squares of a 4x4 grid whose red is not 0."""
    del size
    num = frames.shape[0]
    corners = jnp.arange(NUM_PLACES)
    left, top = corners % 4 * SIDE, corners // 4 * SIDE
    boxes = jnp.stack([left, top, left + SIDE, top + SIDE], -1).astype(jnp.float32)
    red = frames[:, top + SIDE // 2, left + SIDE // 2, 0]
    places = jnp.array([[[4.0, 4], [12, 4], [9, 8], [8, 12], [0, 8], [16, 8]]])
    landmarks = boxes[:, None, :2] + places
    return Detections(
        jnp.broadcast_to(boxes, (num, NUM_PLACES, 4)),
        red / 255,
        jnp.broadcast_to(landmarks, (num, NUM_PLACES, 6, 2)),
        red > 0,
    )


def judge(crops):
    """Red as the first number of two; one cause, stronger where there is more red."""
    red = crops[:, 4, 4, 0].astype(jnp.float32)
    return jnp.stack([red, 255 - red], -1), red[:, None] / 255


analyze = make_analyze(detect, judge, Framing(), (8, 8, 3))
analyze_jitted = jax.jit(analyze)


def frames_of(*counts, seed=0):
    """Frames of 64x64 with that many squares each, and their reds by place."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((len(counts), 4, 4, 3), np.uint8)
    for frame, count in zip(frames, counts, strict=True):
        places = rng.permutation(NUM_PLACES)[:count]
        frame.reshape(-1, 3)[places, 0] = rng.integers(1, 256, count)
    reds = frames[..., 0].reshape(len(counts), NUM_PLACES)
    return frames.repeat(SIDE, 1).repeat(SIDE, 2), reds


@pytest.mark.parametrize(
    "counts", [(0,), (1,), (2,), (4,), (5,), (16,), (0, 0), (0, 3), (2, 0, 16), (9, 9)]
)
def test_each_face_has_its_own_probabilities(counts):
    frames, reds = frames_of(*counts)
    found, readings = analyze_jitted(frames, jnp.array([64, 64]))
    assert found.mask.sum(1).tolist() == list(counts)
    expected = np.stack([reds, 255.0 - reds], -1) * (reds > 0)[..., None]
    np.testing.assert_array_equal(readings.probabilities, expected)
    # Squares of 16 pixels, whose noses lie an eighth of half their ears' distance off.
    yaw = np.rad2deg(np.arctan(1 / 8))
    expected = np.stack([reds / 255, 0 * reds + 0.6, 0 * reds + yaw / 90], -1)
    expected *= (reds > 0)[..., None]
    np.testing.assert_allclose(readings.strengths, expected, atol=1e-6)
    pose = np.stack([0 * reds + yaw, 0 * reds], -1) * (reds > 0)[..., None]
    np.testing.assert_allclose(readings.pose, pose, atol=1e-5)


def test_no_more_crops_than_needed_are_classified():
    """In batches of as many as there are frames, seen by a callback."""
    classified = []

    def counting(crops):
        jax.debug.callback(lambda: classified.append(len(crops)))
        return judge(crops)

    counted = jax.jit(make_analyze(detect, counting, Framing(), (8, 8, 3)))
    for counts, batches in (
        ((0,), []),
        ((1,), [1]),
        ((5,), [1] * 5),
        ((16,), [1] * 16),
        ((0, 0), []),
        ((2, 1), [2, 2]),
        ((1, 0, 2), [3]),
    ):
        classified.clear()
        jax.block_until_ready(counted(frames_of(*counts)[0], jnp.array([64, 64])))
        jax.effects_barrier()
        assert classified == batches


def test_one_exported_program_serves_every_number_and_size_of_frames():
    sizes = jax.export.symbolic_shape("n, h, w")
    frames = jax.ShapeDtypeStruct((*sizes, 3), jnp.uint8)
    # A program's file holds plain tuples only.
    program = jax.export.export(jax.jit(lambda *a: jax.tree.leaves(analyze(*a))))(
        frames, jax.ShapeDtypeStruct((2,), jnp.int32)
    )
    again = jax.export.deserialize(program.serialize())
    for counts in ((1,), (3, 5)):
        frames, _ = frames_of(*counts)
        size = jnp.array([64, 64])
        expected = jax.tree.leaves(analyze_jitted(frames, size))
        found = jax.jit(again.call)(frames, size)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
