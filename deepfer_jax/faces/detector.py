"""Finds faces in frames: `detect = make_detect(load_detector("short"))`.

    detections = jax.jit(detect)(frames, size)          # Detections, best first

Letter-box resizing, network, anchors and non-maximum suppression are one function of
fixed shapes, for any number of frames of any size, known when it is compiled or not.

`short` is the default: it finds a person at a camera, in two fifths of the time. What
part was found of the faces of three photographs, in sixteen places each of 640x480
pixels, by the face's width, and the milliseconds of a frame on two cores, detection
alone (scripts/measure_detectors.py, results/detectors.json):

    pixels             40    50    64    80   100  128-260   340  cut by the edge   ms
    short, 0.65      0.00  0.00  0.02  0.50  0.94     1.00  1.00             0.54  2.0
    full, 0.5        0.58  0.73  1.00  1.00  1.00     1.00  0.85             0.83  5.0

At 160 pixels both find all 48 when tilted by 30 degrees or at a quarter of the light.

Pixels are sampled around their centres and averaged; MediaPipe takes one sample at a
pixel's corner, with which as many faces are found, and boxes lie about one pixel of the
network's beside ours. Sampled so, `short` gives MediaPipe's own scores to 0.002.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from deepfer_jax.errors import UserError
from deepfer_jax.faces.boxes import overlap
from deepfer_jax.faces.program import Detections
from deepfer_jax.models.blazeface import BLAZEFACES, BlazeFace
from deepfer_jax.pretrained.tensors import read_ported

_ASSETS = pathlib.Path(__file__).parents[1] / "assets"
MAX_FACES = 16
# Candidates that take part in the suppression.
_NUM_CANDIDATES = 128
# MediaPipe's: boxes that overlap more than this are one face.
_MAX_OVERLAP = 0.3
_MAX_LOGIT = 100.0
# Of products of coordinates and pixels: a TPU's own, bfloat16, moves boxes by pixels.
_EXACT = jax.lax.Precision.HIGHEST


class Detector(NamedTuple):
    """A face detector: its name, its network and the network's {params}."""

    name: str
    model: BlazeFace
    variables: dict[str, Any]


def load_detector(name: str) -> Detector:
    """Loads a detector that ships, "short" or "full".

    Raises:
      UserError: another name.
    """
    if name not in BLAZEFACES:
        raise UserError(
            f"detector: expected one of {', '.join(BLAZEFACES)}, found {name!r}"
        )
    path = _ASSETS / f"blazeface_{name}" / "params.safetensors"
    variables, _ = read_ported(path)
    return Detector(name, BLAZEFACES[name], variables)


def make_detect(
    detector: Detector, max_faces: int = MAX_FACES, min_score: float | None = None
) -> Callable[[jax.Array, jax.Array], Detections]:
    """Returns `detect(frames, size) -> Detections`.

    frames are uint8 [N, H, W, 3], RGB, and size int [2] their true height and width, in
    the upper left of the array. N, H and W may be symbolic.

    Args:
      detector: of `load_detector`.
      max_faces: so many are kept, the best.
      min_score: in [0, 1], below which a candidate is no face; None for the detector's
        own.
    """
    model, anchors = detector.model, detector.model.anchors()
    min_score = model.min_score if min_score is None else min_score

    def detect(frames, size):
        images, scale, corner = letter_box(frames, size, model.size)
        raw, logits = model.network.apply(detector.variables, images / 127.5 - 1.0)
        scores = jax.nn.sigmoid(jnp.clip(logits, -_MAX_LOGIT, _MAX_LOGIT))
        scores, best = jax.lax.top_k(scores, _NUM_CANDIDATES)
        raw = jnp.take_along_axis(raw, best[..., None], axis=1)
        points = decode(raw, jnp.asarray(anchors)[best], model.size)
        # From the letter box to pixels of the frame.
        points = (points * model.size - corner[None, None, None]) * scale
        return suppress(points, scores, max_faces, min_score)

    return detect


def letter_box(
    frames: jax.Array, size: jax.Array, side: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Frames in the middle of black squares, as large as they fit.

    Each row of a square is the mean of two that are interpolated, which is four times
    as fast as a product with a matrix; along a row, bilinear with antialiasing.

    Args:
      frames: uint8 [N, H, W, 3]; only `size` of them counts.
      size: int [2], true height and width.
      side: of the squares, in pixels.

    Returns:
      float32 [N, side, side, 3] in 0..255, and how points come back: pixel of the
      square minus corner [2] (x and y), times scale.
    """
    height, width = size.astype(jnp.float32)
    scale = jnp.maximum(height, width) / side
    left, top = (side - width / scale) / 2, (side - height / scale) / 2
    rows = _sample_rows(frames, (jnp.arange(2 * side) / 2 + 0.25 - top) * scale, height)
    centres = (jnp.arange(side) + 0.5 - left) * scale
    places = jnp.arange(frames.shape[2])[None] + 0.5
    near = jnp.clip(centres, 0.5, width - 0.5)[:, None]
    weights = jnp.maximum(1 - jnp.abs(places - near) / jnp.maximum(scale, 1.0), 0)
    weights = weights * (places < width) * ((centres > 0) & (centres < width))[:, None]
    weights = weights / jnp.maximum(weights.sum(1, keepdims=True), 1e-6)
    images = jnp.einsum("jw,niwc->nijc", weights, rows, precision=_EXACT)
    return images, scale, jnp.stack([left, top])


def _sample_rows(frames: jax.Array, y: jax.Array, height: jax.Array) -> jax.Array:
    """Means of rows at pairs of places y, black outside: float32 [N, pairs, W, 3]."""
    inside = ((y > 0) & (y < height)).astype(jnp.float32)
    y = jnp.clip(y - 0.5, 0, height - 1)
    upper = jnp.floor(y)
    lower = jnp.minimum(upper + 1, height - 1)
    weights = ((y - upper) * inside / 2, (1 - y + upper) * inside / 2)
    total = jnp.zeros((), jnp.float32)
    for row, weight in zip((lower, upper), weights, strict=True):
        for first in (0, 1):
            taken = frames[:, row[first::2].astype(jnp.int32)].astype(jnp.float32)
            total = total + weight[None, first::2, None, None] * taken
    return total


def decode(raw: jax.Array, anchors: jax.Array, size: int) -> jax.Array:
    """Corners and landmarks of boxes, from what the network gives.

    Args:
      raw: float32 [..., 16]: x and y of the centre from the anchor, width and height,
        then x and y of six landmarks from the anchor, in pixels of the network.
      anchors: float32 [..., 2], x and y in [0, 1].
      size: pixels of the network's side.

    Returns:
      float32 [..., 8, 2], x and y in [0, 1]: upper left and lower right corner, then
      the landmarks.
    """
    points = raw.reshape(*raw.shape[:-1], 8, 2) / size
    origin = jnp.broadcast_to(anchors[..., None, :], (*raw.shape[:-1], 1, 2))
    centre = points[..., :1, :] + origin
    half = points[..., 1:2, :] / 2
    landmarks = points[..., 2:, :] + origin
    return jnp.concatenate([centre - half, centre + half, landmarks], axis=-2)


def suppress(
    points: jax.Array, scores: jax.Array, max_faces: int, min_score: float
) -> Detections:
    """Makes one face of boxes that overlap: their mean, weighted by their scores.

    As MediaPipe's weighted non-maximum suppression: the best box that is left takes
    with it all that overlap it by more than 0.3 (intersection over union). Boxes of a
    face that moves jitter by a seventh to a third less than the best box alone.

    Args:
      points: float32 [N, K, 8, 2], as of `decode`, best first.
      scores: float32 [N, K], in [0, 1].
      max_faces: length of the result.
      min_score: below which a box counts for nothing.

    Returns:
      Detections of that length.
    """
    corners = points[:, :, :2].reshape(*points.shape[:2], 4)
    overlaps = overlap(corners[:, :, None], corners[:, None], jnp)

    def take(left, _):
        best = jnp.where(left, scores, -1.0).argmax(1)
        score = jnp.take_along_axis(scores, best[:, None], 1)[:, 0]
        row = jnp.take_along_axis(overlaps, best[:, None, None], 1)[:, 0]
        there = left.any(1)
        group = left & (
            (row > _MAX_OVERLAP) | (jnp.arange(row.shape[1])[None] == best[:, None])
        )
        weights = jnp.where(group, scores, 0.0)
        weights = weights / jnp.maximum(weights.sum(1, keepdims=True), 1e-6)
        mean = jnp.einsum("nk,nkpd->npd", weights, points, precision=_EXACT)
        return left & ~group, (mean, jnp.where(there, score, 0.0), there)

    _, (means, best_scores, mask) = jax.lax.scan(
        take, scores >= min_score, length=max_faces
    )
    means, best_scores, mask = (
        jnp.moveaxis(x, 0, 1) for x in (means, best_scores, mask)
    )
    boxes = means[:, :, :2].reshape(*means.shape[:2], 4)
    return Detections(boxes, best_scores, means[:, :, 2:], mask)
