"""From frames to emotions in one compiled program: detect, crop, classify.

    analyze = make_analyze(detect, classify, framing, (48, 48, 1), 7)
    found, probabilities = jax.jit(analyze)(frames, size)

No host round trip lies between. Only about as many crops are classified as there are
faces: 1, 4 or 16 a frame, chosen inside the program.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from deepfer_jax.faces.crop import Framing, crop_faces

# Crops a frame that are classified together, if the detector finds so many.
_BUCKETS = (1, 4, 16)


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


def make_read(
    classify: Callable[[jax.Array], jax.Array],
    framing: Framing,
    shape: tuple[int, int, int],
) -> Callable[..., jax.Array]:
    """Returns `read(frames, size, frame_of, boxes, landmarks) -> probabilities`.

    Args:
      classify: uint8 [M, *shape] -> float32 [M, classes].
      framing: of the crops.
      shape: (height, width, channels) of a crop.

    The arguments of `read` are those of `crop.crop_faces`; it gives float32 [M,
    classes].
    """

    def read(frames, size, frame_of, boxes, landmarks):
        crops = crop_faces(frames, frame_of, boxes, landmarks, framing, size, shape)
        return classify(crops)

    return read


def make_analyze(
    detect: Callable[[jax.Array, jax.Array], Detections],
    read: Callable[..., jax.Array],
    num_classes: int,
) -> Callable[[jax.Array, jax.Array], tuple[Detections, jax.Array]]:
    """Returns `analyze(frames, size) -> (Detections, probabilities [N, F, classes])`.

    frames are uint8 [N, H, W, 3], RGB, and size int [2] their true height and width, in
    the upper left of the array; probabilities are 0 where there is no face. N, H and W
    may be symbolic.

    Args:
      detect: (frames, size) -> Detections.
      read: of `make_read`.
      num_classes: of the classifier.
    """

    def analyze(frames, size):
        found = detect(frames, size)
        num_frames, num_places = frames.shape[0], found.mask.shape[1]
        total = num_frames * num_places
        mask = found.mask.reshape(total)
        # Faces first, whichever frame they are in.
        order = jnp.argsort(~mask, stable=True)
        boxes = found.boxes.reshape(total, 4)[order]
        landmarks = found.landmarks.reshape(total, -1, 2)[order]

        def read_first(num):
            faces = (order[:num] // num_places, boxes[:num], landmarks[:num])
            probabilities = read(frames, size, *faces)
            return jnp.pad(probabilities, ((0, total - num), (0, 0)))

        sizes = [num_frames * b for b in _BUCKETS if b < num_places] + [total]
        branches = [lambda: jnp.zeros((total, num_classes))]
        branches += [lambda num=num: read_first(num) for num in sizes]
        bucket = sum((mask.sum() > num).astype(jnp.int32) for num in [0, *sizes[:-1]])
        probabilities = jax.lax.switch(bucket, branches)
        probabilities = jnp.where(mask[order][:, None], probabilities, 0.0)
        placed = jnp.zeros_like(probabilities).at[order].set(probabilities)
        return found, placed.reshape(num_frames, num_places, num_classes)

    return analyze
