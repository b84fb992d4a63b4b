"""Reads the emotions of faces in a video, a camera or a folder of images.

    with open_frames("party.mp4") as frames:
        for moment in follow(analyzer, frames, Tracker(analyzer.classes, 0.76)):
            print(moment.time, [face.label for face in moment.faces])

Frames are read, found and written a few at a time, so that memory does not grow with
the length. OpenCV reads and writes; its BGR never leaves this file.
"""

import contextlib
import csv
import itertools
import os
import pathlib
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from deepfer_jax.data.images import ImageError, find_images, read_image, to_rgb
from deepfer_jax.errors import UserError
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.photos import draw_faces
from deepfer_jax.faces.tracking import Tracker

_BATCH = 8
# Of a folder of images, and of a file that does not say.
_DEFAULT_RATE = 25.0


class Frames(NamedTuple):
    """What is to be read: images uint8 [H, W, 3] RGB with their times in seconds.

    num is how many there are, or None; rate is frames a second; live says that they
    come in real time, so that none may wait for others.
    """

    images: Iterator[tuple[float, np.ndarray]]
    num: int | None
    rate: float
    live: bool = False


class Moment(NamedTuple):
    """A frame with its number from 0, its time in seconds and the faces in it."""

    number: int
    time: float
    image: np.ndarray
    faces: list[Face]


class BrokenVideo(UserError):  # noqa: N818 (named for what it is)
    """A video that ends before its end; what could be read was given out."""


def import_cv2():
    """Returns OpenCV.

    Raises:
      UserError: it is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise UserError(
            'OpenCV is not installed: pip install "deepfer_jax[video]"'
        ) from None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


@contextlib.contextmanager
def open_frames(source: str | os.PathLike) -> Iterator[Frames]:
    """Opens a video file, a camera (its number) or a folder of images.

    Raises:
      UserError: there is no such thing, or OpenCV cannot read it. While it is read:
        BrokenVideo, which names the frame.
    """
    path = pathlib.Path(source)
    if path.is_dir():
        yield _open_folder(path)
        return
    cv2 = import_cv2()
    is_camera = str(source).isdecimal()
    if not is_camera and not path.is_file():
        raise UserError(f"{source}: no such file, folder or camera")
    capture = cv2.VideoCapture(int(str(source)) if is_camera else str(path))
    try:
        if not capture.isOpened():
            kind = "there is no such camera" if is_camera else "not a video"
            raise UserError(f"{source}: {kind}, or OpenCV cannot read it")
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if 0 < rate < 1000 else _DEFAULT_RATE
        num = None if is_camera else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        num = num if num and num > 0 else None
        images = _read_video(cv2, capture, str(source), rate, num, is_camera)
        yield Frames(images, num, rate, is_camera)
    finally:
        capture.release()


def _open_folder(path: pathlib.Path) -> Frames:
    paths = list(find_images([path]))
    if not paths:
        raise UserError(f"{path} holds no images")

    def read() -> Iterator[tuple[float, np.ndarray]]:
        for i, name in enumerate(paths):
            try:
                yield i / _DEFAULT_RATE, to_rgb(read_image(name))
            except ImageError as error:
                raise BrokenVideo(f"frame {i}: {error}") from None

    return Frames(read(), len(paths), _DEFAULT_RATE)


def _read_video(cv2, capture, name, rate, num, is_live):
    started = time.monotonic()
    for i in itertools.count():
        there, image = capture.read()
        if not there:
            if i == 0 or (num is not None and i < num):
                of = f" of {num}" if num else ""
                raise BrokenVideo(
                    f"{name}: frame {i}{of} cannot be read: the video is cut off or "
                    "damaged"
                )
            return
        moment = time.monotonic() - started if is_live else i / rate
        yield moment, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def follow(analyzer: Analyzer, frames: Frames, tracker: Tracker) -> Iterator[Moment]:
    """Yields every frame with its faces, which keep their numbers.

    Raises:
      BrokenVideo: after the last frame that could be read.
    """
    number, size = 0, 1 if frames.live else _BATCH
    for batch, error in _batches(frames.images, size):
        images = [image for _, image in batch]
        # Always as many: the last few would have to be compiled for by themselves.
        images += images[-1:] * (size - len(images))
        found = analyzer.analyze(np.stack(images)) if images else []
        for (moment, image), faces in zip(batch, found[: len(batch)], strict=True):
            yield Moment(number, moment, image, tracker.update(faces, moment))
            number += 1
        if error is not None:
            raise error


def _batches(images: Iterable[tuple[float, np.ndarray]], size: int):
    """Yields (frames of one shape, at most `size`; what broke after them or None)."""
    batch = []
    try:
        for item in images:
            if batch and (len(batch) == size or item[1].shape != batch[0][1].shape):
                yield batch, None
                batch = []
            batch.append(item)
    except BrokenVideo as error:
        yield batch, error
        return
    if batch:
        yield batch, None


class VideoWriter:
    """Writes frames with their faces drawn as an .mp4 file.

    Args:
      path: of the file.
      rate: frames a second.
      classes: names of the faces' probabilities.

    Raises:
      UserError: OpenCV cannot write there; from `write`.
    """

    def __init__(self, path: str | os.PathLike, rate: float, classes: tuple[str, ...]):
        self._path, self._rate, self._classes = str(path), rate, classes
        self._cv2, self._writer = import_cv2(), None

    def write(self, moment: Moment) -> None:
        cv2 = self._cv2
        if self._writer is None:
            height, width = moment.image.shape[:2]
            self._size = (width - width % 2, height - height % 2)
            code = cv2.VideoWriter_fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(self._path, code, self._rate, self._size)
            if not self._writer.isOpened():
                raise UserError(f"{self._path}: cannot be written as a video")
        picture = draw_faces(moment.image, moment.faces, self._classes)
        picture = np.asarray(picture)
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size)
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


class CsvWriter:
    """Writes one row a face a frame.

    The columns are frame (from 0), time (seconds), track, left, top, right, bottom
    (pixels), score, label, probability, unsure (1, 0, or empty where the model is not
    calibrated) and a probability a class, smoothed.
    """

    def __init__(self, path: str | os.PathLike, classes: tuple[str, ...]):
        try:
            self._file = pathlib.Path(path).open("w", newline="")  # noqa: SIM115
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        self._writer = csv.writer(self._file)
        columns = ["frame", "time", "track", "left", "top", "right", "bottom", "score"]
        self._writer.writerow([*columns, "label", "probability", "unsure", *classes])

    def write(self, moment: Moment) -> None:
        for face in moment.faces:
            self._writer.writerow(
                [
                    moment.number,
                    f"{moment.time:.3f}",
                    face.track,
                    *(f"{x:.1f}" for x in face.box),
                    f"{face.score:.3f}",
                    face.label,
                    f"{face.probability:.4f}",
                    "" if face.unsure is None else int(face.unsure),
                    *(f"{p:.4f}" for p in face.probabilities),
                ]
            )

    def close(self) -> None:
        self._file.close()
