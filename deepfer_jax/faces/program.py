"""From frames to emotions in one compiled program: detect, crop, classify.

    analyze = make_analyze(detect, judge, framing, (48, 48, 1))
    detections, readings = jax.jit(analyze)(frames, size)

No host round trip lies between. Only as many crops are classified as there are faces,
in batches of as many as there are frames: a loop inside the program. Batches of 4 and
16 beside it, chosen inside the program too, took 0 and 7 % less time on a CPU for as
many faces, and a second more to compile.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from deepfer_jax.faces.crop import Framing, crop_faces
from deepfer_jax.faces.pose import geometric_causes, pose


class Detections(NamedTuple):
    """Faces in frames, F places each, best first.

    boxes are float32 [N, F, 4], left, top, right, bottom in pixels of the frame, scores
    float32 [N, F] in [0, 1], landmarks float32 [N, F, 6, 2], x and y in pixels, and
    mask bool [N, F] says which places hold a face.
    """

    boxes: jax.Array
    scores: jax.Array
    landmarks: jax.Array
    mask: jax.Array


class Readings(NamedTuple):
    """What is read from the faces of frames, 0 where there is none.

    probabilities are float32 [N, F, classes]; strengths float32 [N, F, causes] in
    [0, 1], of what spoils the face: the classifier's causes, then `pose.CAUSES`; pose
    is float32 [N, F, 2], yaw and roll in degrees.
    """

    probabilities: jax.Array
    strengths: jax.Array
    pose: jax.Array


def make_analyze(
    detect: Callable[[jax.Array, jax.Array], Detections],
    judge: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    framing: Framing,
    shape: tuple[int, int, int],
) -> Callable[[jax.Array, jax.Array], tuple[Detections, Readings]]:
    """Returns `analyze(frames, size) -> (Detections, Readings)`.

    frames are uint8 [N, H, W, 3], RGB, and size int [2] their true height and width, in
    the upper left of the array. N, H and W may be symbolic.

    Args:
      detect: (frames, size) -> Detections.
      judge: uint8 [N, *shape] -> probabilities float32 [N, classes] and how strongly
        each of its causes spoils the face, float32 [N, causes] in [0, 1].
      framing: of the crops.
      shape: (height, width, channels) of a crop.
    """

    one = jax.eval_shape(judge, jax.ShapeDtypeStruct((1, *shape), jnp.uint8))

    def analyze(frames, size):
        detections = detect(frames, size)
        num_frames, num_places = frames.shape[0], detections.mask.shape[1]
        total = num_frames * num_places
        mask = detections.mask.reshape(total)
        boxes = detections.boxes.reshape(total, 4)
        landmarks = detections.landmarks.reshape(total, -1, 2)
        # Faces first, whichever frame they are in.
        order = jnp.argsort(~mask, stable=True)

        def read(i, outputs):
            which = jax.lax.dynamic_slice_in_dim(order, i * num_frames, num_frames)
            faces = (which // num_places, boxes[which], landmarks[which])
            crops = crop_faces(frames, *faces, framing, size, shape)
            return jax.tree.map(
                lambda all_faces, some: all_faces.at[which].set(some),
                outputs,
                judge(crops),
            )

        num_batches = -(-mask.sum() // num_frames)
        outputs = jax.tree.map(lambda x: jnp.zeros((total, *x.shape[1:])), one)
        probabilities, strengths = jax.lax.fori_loop(0, num_batches, read, outputs)
        yaw, roll = pose(landmarks)
        strengths = jnp.concatenate([strengths, geometric_causes(boxes, yaw)], -1)
        readings = Readings(probabilities, strengths, jnp.stack([yaw, roll], -1))

        def by_frame(x):
            x = jnp.where(mask[:, None], x, 0.0)
            return x.reshape(num_frames, num_places, x.shape[1])

        return detections, jax.tree.map(by_frame, readings)

    return analyze
