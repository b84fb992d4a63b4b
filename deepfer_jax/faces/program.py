"""From frames to emotions in one compiled program: detect, crop, classify.

    analyze = make_analyze(detect, classify, framing, (48, 48, 1), 7)
    detections, probabilities = jax.jit(analyze)(frames, size)

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


def make_analyze(
    detect: Callable[[jax.Array, jax.Array], Detections],
    classify: Callable[[jax.Array], jax.Array],
    framing: Framing,
    shape: tuple[int, int, int],
    num_classes: int,
) -> Callable[[jax.Array, jax.Array], tuple[Detections, jax.Array]]:
    """Returns `analyze(frames, size) -> (Detections, probabilities [N, F, classes])`.

    frames are uint8 [N, H, W, 3], RGB, and size int [2] their true height and width, in
    the upper left of the array; probabilities are 0 where there is no face. N, H and W
    may be symbolic.

    Args:
      detect: (frames, size) -> Detections.
      classify: uint8 [N, *shape] -> float32 [N, num_classes].
      framing: of the crops.
      shape: (height, width, channels) of a crop.
      num_classes: of the classifier.
    """

    def analyze(frames, size):
        detections = detect(frames, size)
        num_frames, num_places = frames.shape[0], detections.mask.shape[1]
        total = num_frames * num_places
        mask = detections.mask.reshape(total)
        boxes = detections.boxes.reshape(total, 4)
        landmarks = detections.landmarks.reshape(total, -1, 2)
        # Faces first, whichever frame they are in.
        order = jnp.argsort(~mask, stable=True)

        def read(i, probabilities):
            which = jax.lax.dynamic_slice_in_dim(order, i * num_frames, num_frames)
            faces = (which // num_places, boxes[which], landmarks[which])
            crops = crop_faces(frames, *faces, framing, size, shape)
            return probabilities.at[which].set(classify(crops))

        num_batches = -(-mask.sum() // num_frames)
        probabilities = jnp.zeros((total, num_classes))
        probabilities = jax.lax.fori_loop(0, num_batches, read, probabilities)
        probabilities = jnp.where(mask[:, None], probabilities, 0.0)
        return detections, probabilities.reshape(num_frames, num_places, num_classes)

    return analyze
