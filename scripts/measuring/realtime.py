"""Speed from a camera's frame to emotions, by part, as one JSON document.

    document = benchmark_realtime("deepfer_jax/assets/tiny", cores=[1, 2])

Its layout:

    device, threads, load, versions   as of `measuring.speed`
    frame        {width, height} of the frames, in pixels
    runs         list of {cores, faces (in the frame), found, whole, detector, crop,
                 classifier}, each part {p50_ms, p95_ms} of a call
    whole, detector, crop, classifier   those of one face on the most cores
    start_up     {first, second} and, with `compare`, {fer}: as of `measure_start_up`
    video        {frames_per_second}: frames in batches, on the most cores
    fer          with `compare`: {whole, runs} of the package `fer`

Calls go from a NumPy array to NumPy arrays, after warm-up. The frames are made of
scikit-image's photograph of an astronaut.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from measuring import timing

from deepfer_jax.errors import UserError

_WIDTH, _HEIGHT = 640, 480
_NUM_FACES = (1, 4, 16)
_BATCH = 8
_NUM_STARTS = 5


def make_frame(num_faces: int) -> np.ndarray:
    """uint8 [480, 640, 3] with that many faces: 1, 4 or 16.

    Raises:
      UserError: scikit-image, whose photograph it is, is not installed.
    """
    try:
        from skimage import data, transform
    except ImportError:
        raise UserError(
            'scikit-image is not installed: pip install "deepfer_jax[dev]"'
        ) from None
    # Closer to the face where there are many, so that each is large enough.
    photo = data.astronaut()
    photo = photo[55:205, 125:325] if num_faces < 16 else photo[80:185, 155:295]
    rows = round(num_faces**0.5)
    shape = (_HEIGHT // rows, _WIDTH // rows)
    tile = transform.resize(photo, shape, anti_aliasing=True, preserve_range=True)
    return np.tile(np.rint(tile).astype(np.uint8), (rows, rows, 1))


def measure(model: str | os.PathLike, num_calls: int) -> dict[str, Any]:
    """Runs and frames a second in batches, on the processors of this process."""
    from deepfer_jax.faces.analyzer import Analyzer

    analyzer = Analyzer(model)
    cores = len(os.sched_getaffinity(0))
    runs = []
    for num_faces in _NUM_FACES:
        frame = make_frame(num_faces)
        faces = analyzer.analyze(frame)[0]
        parts = {"whole": lambda frame=frame: analyzer.analyze(frame)}
        parts |= _make_parts(model, analyzer, frame, faces)
        times = {
            name: timing.percentiles(part, num_calls) for name, part in parts.items()
        }
        runs.append({"cores": cores, "faces": num_faces, "found": len(faces)} | times)
    frames = np.repeat(make_frame(1)[None], _BATCH, axis=0)
    batch = timing.percentiles(
        lambda: analyzer.analyze(frames), max(num_calls // _BATCH, 3)
    )
    rate = round(1e3 * _BATCH / batch["p50_ms"], 1)
    return {"runs": runs, "video": {"cores": cores, "frames_per_second": rate}}


def _make_parts(model, analyzer, frame, faces) -> dict[str, Callable]:
    """Detector, crop and classifier of one frame, each a program of its own."""
    import jax

    from deepfer_jax.exported import ExportedModel
    from deepfer_jax.faces.analyzer import compiler_options
    from deepfer_jax.faces.crop import Framing, crop_faces
    from deepfer_jax.faces.detector import load_detector, make_detect
    from deepfer_jax.inference import ARTEFACT
    from deepfer_jax.parallel import known_compiler_options

    options = known_compiler_options(compiler_options())
    detector = "short" if analyzer.detector == "short" else "full"
    about = analyzer.metadata["faces"]["detectors"][detector]
    detect = jax.jit(
        make_detect(load_detector(detector), analyzer.max_faces),
        compiler_options=options,
    )
    crop = jax.jit(crop_faces, static_argnums=(4, 6), compiler_options=options)
    program, weights = ExportedModel(model).load(ARTEFACT)
    classify = functools.partial(
        jax.jit(program.call, compiler_options=options), jax.device_put(weights)
    )
    frames, size = frame[None], np.array(frame.shape[:2], np.int32)
    where = (
        np.zeros(len(faces), np.int32),
        np.stack([face.box for face in faces]),
        np.stack([face.landmarks for face in faces]),
    )
    shape = tuple(analyzer.metadata["input"]["shape"])
    framing = Framing(**about["framing"])
    crops = np.asarray(crop(frames, *where, framing, size, shape))
    return {
        "detector": lambda: jax.device_get(detect(frames, size)),
        "crop": lambda: jax.device_get(crop(frames, *where, framing, size, shape)),
        "classifier": lambda: jax.device_get(classify(crops)),
    }


def _name(model: str | os.PathLike) -> str:
    """Of a model, for a process in another folder."""
    return str(
        pathlib.Path(model).absolute() if pathlib.Path(model).is_dir() else model
    )


# Seconds since the parent started the process count, so they are the wall clock's.
_START_UP = """
import json, sys, time
times = [float(sys.argv[1]), time.time()]
import numpy as np
{imports}
times.append(time.time())
analyze = {create}
times.append(time.time())
assert analyze(np.load(sys.argv[2]))
times.append(time.time())
names = ["python_s", "import_s", "load_s", "first_answer_s"]
found = dict(zip(names, np.diff(times).tolist()))
print(json.dumps(found | {{"total_s": times[-1] - times[0]}}))
"""
_OURS_START_UP = _START_UP.format(
    imports="from deepfer_jax.faces.analyzer import Analyzer",
    create="Analyzer(sys.argv[3]).analyze",
)
_FER_START_UP = _START_UP.format(
    imports="from fer.fer import FER", create="FER().detect_emotions"
)


def measure_start_up(
    model: str | os.PathLike, folder: pathlib.Path, fer_python: str | None = None
) -> dict[str, Any]:
    """Seconds from the start of a process to its first answer, medians of five.

    The three are measured in turn, five times.

    Args:
      model: an exported model.
      folder: for temporary files.
      fer_python: an interpreter with the package `fer`, to compare with.

    Returns:
      first: with an empty cache; second: with what the first left there; and fer, where
      it is compared with: each {python_s, import_s, load_s, first_answer_s, total_s}.
    """
    frame = make_frame(1)
    ours, theirs = folder / "frame.npy", folder / "frame_bgr.npy"
    np.save(ours, frame)
    np.save(theirs, np.ascontiguousarray(frame[..., ::-1]))
    found = {"first": [], "second": []} | ({"fer": []} if fer_python else {})
    for number in range(_NUM_STARTS):
        cache = str(folder / f"cache{number}")
        for name in ("first", "second"):
            found[name].append(
                _start(sys.executable, _OURS_START_UP, cache, ours, model)
            )
        if fer_python:
            found["fer"].append(_start(fer_python, _FER_START_UP, cache, theirs))
    return {
        which: {
            name: round(float(np.median([x[name] for x in times])), 3)
            for name in times[0]
        }
        for which, times in found.items()
    }


def _start(python: str, code: str, cache: str, *arguments: Any) -> dict[str, float]:
    """What a process prints that keeps executables in `cache` and not by jax."""
    command = [python, "-c", code, str(time.time()), *map(str, arguments)]
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    environment["XDG_CACHE_HOME"] = cache
    output = subprocess.check_output(command, env=environment, text=True)
    return json.loads(output.splitlines()[-1])


_FER = """
import json, os, sys, time
os.sched_setaffinity(0, json.loads(sys.argv[2]))
from fer.fer import FER
import numpy as np
detector, runs = FER(), []
for frame in np.load(sys.argv[1])[..., ::-1]:
    times = []
    for call in range(3 + int(sys.argv[3])):
        start = time.perf_counter()
        found = detector.detect_emotions(np.ascontiguousarray(frame))
        times.append(1e3 * (time.perf_counter() - start))
    p50, p95 = np.round(np.percentile(times[3:], [50, 95]), 3).tolist()
    runs.append({"found": len(found), "whole": {"p50_ms": p50, "p95_ms": p95}})
print(json.dumps({"runs": runs}))
"""


def measure_fer(
    python: str, processors: Sequence[int], folder: pathlib.Path, num_calls: int
) -> dict[str, Any]:
    """The package `fer` on the same frames: {runs}.

    Args:
      python: an interpreter that has it, with an OpenCV below 5.
      processors: numbers of those to run on.
      folder: for a temporary file.
      num_calls: of each frame.

    Raises:
      UserError: it does not run there.
    """
    frames = folder / "frames.npy"
    np.save(frames, np.stack([make_frame(num) for num in _NUM_FACES]))
    arguments = [str(frames), json.dumps(processors), str(num_calls)]
    command = [python, "-c", _FER, *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", None) or str(error)
        raise UserError(
            f"{python} cannot run fer ({why.strip().splitlines()[-1]}): "
            'pip install fer "opencv-contrib-python<5" "setuptools<80" in an '
            "environment of its own, and name its Python with --fer_python"
        ) from None
    found = json.loads(result.stdout.splitlines()[-1])
    for run, num_faces in zip(found["runs"], _NUM_FACES, strict=True):
        run |= {"cores": len(processors), "faces": num_faces}
    return found


def benchmark_realtime(
    model: str | os.PathLike,
    cores: Sequence[int],
    folder: pathlib.Path,
    num_calls: int = 200,
    fer_python: str | None = None,
) -> dict[str, Any]:
    """Measures in processes of their own, each bound to so many processors.

    Args:
      model: an exported model.
      cores: how many processors; those that there are not are left out.
      folder: for temporary files.
      num_calls: of each part.
      fer_python: an interpreter with the package `fer`, to compare with.

    Raises:
      UserError: scikit-image is not installed, none of these numbers can be had, or
        `fer` does not run.
    """
    make_frame(1)
    there = sorted(os.sched_getaffinity(0))
    cores = [num for num in cores if 1 <= num <= len(there)]
    if not cores:
        raise UserError(f"--cores: expected numbers from 1 to {len(there)}")
    document = {"command": "realtime"} | timing.describe_machine()
    document |= {"frame": {"width": _WIDTH, "height": _HEIGHT}, "runs": []}
    theirs = []
    for num in cores:
        code = (
            f"import json, os; os.sched_setaffinity(0, {set(there[:num])!r});"
            "from measuring.realtime import measure;"
            f"print(json.dumps(measure({_name(model)!r}, {num_calls})))"
        )
        output = subprocess.check_output(
            [sys.executable, "-c", code],
            cwd=pathlib.Path(__file__).parents[1],  # where `measuring` is found
            text=True,
        )
        found = json.loads(output.splitlines()[-1])
        document["runs"] += found["runs"]
        document["video"] = found["video"]
        if fer_python:
            theirs.append(measure_fer(fer_python, there[:num], folder, num_calls))
    first = next(run for run in document["runs"] if run["cores"] == max(cores))
    for part in ("whole", "detector", "crop", "classifier"):
        document[part] = first[part]
    if theirs:
        document["fer"] = {
            "whole": theirs[-1]["runs"][0]["whole"],
            "runs": [run for found in theirs for run in found["runs"]],
        }
    document["start_up"] = measure_start_up(model, folder, fer_python)
    return document
