"""How many faces a detector finds, and how steady what is read from them is.

    measure_recall("short")["width"]["100"]        # the part that is found
    measure_flicker(Analyzer())                    # label changes a second
    measure_beside_litert("short", "face_detection_short_range.tflite")

The faces are those of three photographs that come with scikit-image and matplotlib,
scaled, turned and darkened into frames of 640x480 pixels.
"""

import functools
import itertools
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from measuring import timing
from PIL import Image

from deepfer_jax.errors import UserError
from deepfer_jax.faces.analyzer import Analyzer, compiler_options
from deepfer_jax.faces.boxes import overlap
from deepfer_jax.faces.detector import load_detector, make_detect
from deepfer_jax.faces.tracking import Tracker
from deepfer_jax.parallel import known_compiler_options

_WIDTH, _HEIGHT = 640, 480
_GRAY = (104, 110, 116)
# Left, top, right, bottom of the faces, by eye.
FACES = {
    "astronaut": (177, 75, 275, 173),
    "camera": (187, 121, 267, 203),
    "grace_hopper": (163, 130, 368, 336),
}
_NUM_PLACES = 16
_NUM_CALLS = 100
_WIDTHS = (32, 40, 50, 64, 80, 100, 128, 160, 200, 260, 340)
_TILTS = (-45, -30, -15, 15, 30, 45)
_LIGHTS = (0.5, 0.25, 0.1, 0.05)
# Intersection over union with the true box, from which on a face is found. The boxes
# of detectors differ in how much of the forehead they take.
_MIN_OVERLAP = 0.4
# Of the frames that tell how steady labels are.
_NOISE, _RATE, _NUM_FRAMES = 20.0, 25, 250


class View(NamedTuple):
    """How a face lies in a frame: width in pixels, degrees, brightness, at the edge.

    At the edge a quarter of the face is outside.
    """

    width: float = 160.0
    tilt: float = 0.0
    light: float = 1.0
    edge: bool = False


def load_photos() -> dict[str, Image.Image]:
    """The photographs, RGB.

    Raises:
      UserError: scikit-image or matplotlib is not installed.
    """
    try:
        from matplotlib import cbook
        from skimage import data
    except ImportError as error:
        raise UserError(f'{error}: pip install "deepfer_jax[train,dev]"') from None
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        hopper = Image.open(file).convert("RGB")
    return {
        "astronaut": Image.fromarray(data.astronaut()),
        "camera": Image.fromarray(data.camera()).convert("RGB"),
        "grace_hopper": hopper,
    }


def render(
    photo: Image.Image, face: tuple[int, ...], view: View, place: int
) -> tuple[np.ndarray, np.ndarray]:
    """A photograph in a frame, and where its face is.

    Args:
      photo: RGB.
      face: its box in the photograph, in pixels.
      view: of the face.
      place: number of a place in the frame, the same for all views.

    Returns:
      uint8 [480, 640, 3] and float [4], left, top, right and bottom.
    """
    rng = np.random.default_rng(place)
    scale = view.width / (face[2] - face[0])
    free = np.maximum(np.array([_WIDTH, _HEIGHT]) / 2 - 0.8 * view.width, 0)
    centre = np.array([_WIDTH, _HEIGHT]) / 2 + rng.uniform(-1, 1, 2) * free
    if view.edge:
        centre[0] = view.width / 4 if place % 2 else _WIDTH - view.width / 4
    middle = np.array([face[0] + face[2], face[1] + face[3]]) / 2
    shrink = max(1, int(0.9 / scale))  # what is made much smaller is averaged first
    small = photo.reduce(shrink)
    cos, sin = (f(math.radians(view.tilt)) / scale for f in (math.cos, math.sin))
    back = np.array([[cos, -sin], [sin, cos]])
    matrix = np.column_stack([back, middle - back @ centre]) / shrink
    frame = small.transform(
        (_WIDTH, _HEIGHT),
        Image.Transform.AFFINE,
        tuple(matrix.ravel()),
        Image.Resampling.BICUBIC,
        fillcolor=_GRAY,
    )
    box = np.concatenate([centre - view.width / 2, centre + view.width / 2])
    return (np.asarray(frame) * view.light).astype(np.uint8), box


def measure_recall(name: str) -> dict[str, Any]:
    """The part of faces that the detector of that name finds, in sixteen places each.

    Returns:
      {detector, min_score, frame_ms (median, of a call), faces (of each view), width:
      {pixels: part}, tilt: {degrees: part}, light: {brightness: part}, edge: part}.

    Raises:
      UserError: a package with photographs is not installed, or there is no such
        detector.
    """
    detector = load_detector(name)
    detect = jax.jit(
        make_detect(detector),
        compiler_options=known_compiler_options(compiler_options()),
    )
    photos = load_photos()

    def part(view: View) -> float:
        return float(np.mean(list(_find(detect, photos, view))))

    return {
        "detector": name,
        "min_score": detector.model.min_score,
        "frame_ms": round(_time(detect), 2),
        "faces": len(photos) * _NUM_PLACES,
        "width": {str(x): round(part(View(width=x)), 3) for x in _WIDTHS},
        "tilt": {str(x): round(part(View(tilt=x)), 3) for x in _TILTS},
        "light": {str(x): round(part(View(light=x)), 3) for x in _LIGHTS},
        "edge": round(part(View(edge=True)), 3),
    }


def _time(detect: Callable) -> float:
    """Milliseconds of a call for one frame, median."""
    frames = np.zeros((1, _HEIGHT, _WIDTH, 3), np.uint8)
    size = np.array([_HEIGHT, _WIDTH], np.int32)
    call = functools.partial(detect, frames, size)
    return timing.percentiles(lambda: jax.block_until_ready(call()), _NUM_CALLS)[
        "p50_ms"
    ]


def _find(detect: Callable, photos: dict[str, Image.Image], view: View):
    """Yields whether each face is found."""
    size = np.array([_HEIGHT, _WIDTH], np.int32)
    for name, photo in photos.items():
        made = [render(photo, FACES[name], view, i) for i in range(_NUM_PLACES)]
        frames, boxes = map(np.stack, zip(*made, strict=True))
        found = jax.device_get(detect(frames, size))
        for box, there, truth in zip(found.boxes, found.mask, boxes, strict=True):
            overlaps = overlap(box[there], truth)
            yield bool(overlaps.size and overlaps.max() >= _MIN_OVERLAP)


def measure_beside_litert(name: str, path: str | os.PathLike) -> dict[str, Any]:
    """Times the detector's network and MediaPipe's own in turn, on one image.

    Args:
      name: of the detector.
      path: MediaPipe's .tflite file of it.

    Returns:
      {network_ms, litert_ms, ratio}: medians of calls, and of ratios of pairs.

    Raises:
      UserError: LiteRT is not installed, or cannot read the file.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise UserError(
            'LiteRT is not installed: pip install "deepfer_jax[parity]"'
        ) from None
    try:
        theirs = Interpreter(str(path), num_threads=timing.num_threads())
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: {str(error).strip().splitlines()[0]}") from None
    theirs.allocate_tensors()
    (about,) = theirs.get_input_details()
    detector = load_detector(name)
    image = np.zeros(about["shape"], np.float32)
    network = jax.jit(
        lambda x: detector.model.network.apply(detector.variables, x),
        compiler_options=known_compiler_options(compiler_options()),
    )

    def run_ours() -> int:
        jax.device_get(network(image))
        return 1

    def run_theirs() -> int:
        theirs.set_tensor(about["index"], image)
        theirs.invoke()
        for output in theirs.get_output_details():
            theirs.get_tensor(output["index"])
        return 1

    tasks = {"network_ms": run_ours, "litert_ms": run_theirs}
    for task in tasks.values():
        task()
    timings = timing.measure(tasks, _NUM_CALLS)
    medians = {
        key: round(1e3 * float(np.median(x.seconds)), 2) for key, x in timings.items()
    }
    pairs = timings["network_ms"].seconds / timings["litert_ms"].seconds
    return medians | {"ratio": round(float(np.median(pairs)), 2)}


def measure_flicker(analyzer: Analyzer, time_constant: float = 0.4) -> dict[str, Any]:
    """Label changes a second of still faces in ten seconds of a noisy camera.

    Args:
      analyzer: finds and reads the faces.
      time_constant: of the smoothing that is compared with none, in seconds.

    Returns:
      {noise (standard deviation, of 255), rate, seconds, time_constant, photo: {name:
      {before, after}}, before, after}, the last two means over the photographs.
    """
    rows = {}
    for name, photo in load_photos().items():
        frame, _ = render(photo, FACES[name], View(), 0)
        rng = np.random.default_rng(0)
        trackers = {
            "before": Tracker(analyzer.classes, analyzer.threshold, 0.0),
            "after": Tracker(analyzer.classes, analyzer.threshold, time_constant),
        }
        labels = {key: [] for key in trackers}
        for i in range(_NUM_FRAMES):
            noisy = frame + rng.normal(0, _NOISE, frame.shape)
            faces = analyzer.analyze(noisy.clip(0, 255).astype(np.uint8))[0]
            for key, tracker in trackers.items():
                for face in tracker.update(faces[:1], i / _RATE):
                    labels[key].append(face.label)
        seconds = _NUM_FRAMES / _RATE
        rows[name] = {
            key: sum(a != b for a, b in itertools.pairwise(x)) / seconds
            for key, x in labels.items()
        }
    means = {
        key: round(float(np.mean([row[key] for row in rows.values()])), 2)
        for key in ("before", "after")
    }
    about = {"noise": _NOISE, "rate": _RATE, "seconds": _NUM_FRAMES / _RATE}
    return about | {"time_constant": time_constant, "photos": rows} | means
