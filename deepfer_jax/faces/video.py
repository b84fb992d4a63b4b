"""Reads the emotions of faces in a video, a camera or a folder of images.

    with open_frames("party.mp4") as frames:
        for moment in follow(analyzer, frames, Tracker(analyzer.classes, 0.76)):
            print(moment.time, [face.label for face in moment.faces])

Frames are read, searched and written a few at a time, so that memory does not grow with
the length. OpenCV reads, and its BGR never leaves this file; PyAV writes.
"""

import contextlib
import csv
import fractions
import itertools
import math
import os
import pathlib
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from deepfer_jax.data.images import ImageError, find_images, read_image, to_rgb
from deepfer_jax.errors import UserError
from deepfer_jax.faces.face import Face, FindsFaces, rounded
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


def import_av():
    """Returns PyAV.

    Raises:
      UserError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError(
            'PyAV is not installed: pip install "deepfer_jax[video]"'
        ) from None
    return av


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


def follow(analyzer: FindsFaces, frames: Frames, tracker: Tracker) -> Iterator[Moment]:
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
    batch: list[tuple[float, np.ndarray]] = []
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


# Codec and pixel format of each container, and the codecs of sound that it holds.
_CONTAINERS = {
    ".mp4": ("libx264", {"crf": "20", "preset": "fast"}, ("aac", "mp3")),
    ".webm": ("libvpx-vp9", {"crf": "30", "b": "0"}, ("opus", "vorbis")),
}


class VideoWriter:
    """Writes frames with their faces drawn: H.264 in .mp4 or VP9 in .webm, by PyAV.

    Args:
      path: of the file; its suffix chooses.
      rate: frames a second.
      classes: names of the faces' probabilities.
      bars: whether every probability is drawn.
      source: a video whose sound is kept, where it has any.

    Raises:
      UserError: another suffix, or PyAV is not installed; from `write`, it cannot be
        written.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        rate: float,
        classes: tuple[str, ...],
        bars: bool = False,
        source: str | os.PathLike | None = None,
    ):
        self._path, self._classes, self._bars = str(path), classes, bars
        self._rate = fractions.Fraction(rate).limit_denominator(100_000)
        suffix = pathlib.Path(path).suffix.lower()
        if suffix not in _CONTAINERS:
            raise UserError(f"{path}: expected a video .mp4 or .webm")
        self._codec, self._options, self._sounds = _CONTAINERS[suffix]
        self._av = import_av()
        self._container: Any = None
        self._stream: Any = None
        self._sound = source if source and pathlib.Path(source).is_file() else None
        self._packets: Iterator = iter(())
        self._next: Any = None

    def write(self, moment: Moment) -> None:
        height, width = (n - n % 2 for n in moment.image.shape[:2])
        if self._container is None:
            self._open(width, height)
        picture = draw_faces(moment.image, moment.faces, self._classes, self._bars)
        picture = picture.crop((0, 0, width, height))
        if picture.size != (self._stream.width, self._stream.height):
            picture = picture.resize((self._stream.width, self._stream.height))
        frame = self._av.VideoFrame.from_image(picture)
        frame.pts = moment.number
        self._mux(self._stream.encode(frame))
        self._mux_sound(until=float(moment.number / self._rate))

    def _open(self, width: int, height: int) -> None:
        try:
            self._container = self._av.open(self._path, "w")
            self._stream = self._container.add_stream(self._codec, self._rate)
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = self._options
            self._packets = self._open_sound()
            next(self._packets, None)  # its stream is added before frames are
        except (self._av.FFmpegError, ValueError) as error:
            raise UserError(
                f"{self._path}: cannot be written as a video ({error})"
            ) from None

    def _open_sound(self) -> Iterator:
        """Yields packets of the sound, in the codec of the new file."""
        if self._sound is None:
            return
        with self._av.open(str(self._sound)) as source:
            if not source.streams.audio:
                return
            old = source.streams.audio[0]
            if old.codec_context.name in self._sounds:
                new = self._container.add_stream_from_template(old)
                yield None  # the stream is there before the first packet is muxed
                for packet in source.demux(old):
                    if packet.dts is not None:
                        packet.stream = new
                        yield packet
                return
            codec = {"aac": "aac", "opus": "libopus"}[self._sounds[0]]
            new = self._container.add_stream(codec, 48_000)
            yield None
            resampler = self._av.AudioResampler("fltp", new.layout or "stereo", 48_000)
            for frame in source.decode(old):
                for part in resampler.resample(frame):
                    yield from new.encode(part)
            yield from new.encode(None)

    def _mux(self, packets: Iterable) -> None:
        for packet in packets:
            self._container.mux(packet)

    def _mux_sound(self, until: float) -> None:
        """Muxes the sound up to that second, so that both lie side by side."""
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            if self._next is None or self._next.pts * self._next.time_base > until:
                return
            self._container.mux(self._next)
            self._next = None

    def close(self) -> None:
        if self._container is None:
            return
        self._mux(self._stream.encode(None))
        self._mux_sound(until=math.inf)
        self._container.close()


class CsvWriter:
    """Writes one row a face a frame.

    The columns are frame (from 0), time (seconds), track, left, top, right, bottom
    (pixels), score, yaw, roll (degrees), label, probability, unsure (1, 0, or empty
    where the model is not calibrated), quality, reason and a probability a class,
    smoothed.
    """

    def __init__(self, path: str | os.PathLike, classes: tuple[str, ...]):
        try:
            self._file = pathlib.Path(path).open("w", newline="")  # noqa: SIM115
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        self._writer = csv.writer(self._file)
        place = ["track", "left", "top", "right", "bottom", "score", "yaw", "roll"]
        read = ["label", "probability", "unsure", "quality", "reason"]
        self._writer.writerow(["frame", "time", *place, *read, *classes])

    def write(self, moment: Moment) -> None:
        for face in moment.faces:
            self._writer.writerow(
                [
                    moment.number,
                    f"{moment.time:.3f}",
                    face.track,
                    *(f"{x:.1f}" for x in face.box),
                    f"{face.score:.3f}",
                    rounded(face.yaw, 1),
                    rounded(face.roll, 1),
                    face.label,
                    f"{face.probability:.4f}",
                    "" if face.unsure is None else int(face.unsure),
                    rounded(face.quality, 3),
                    face.reason,
                    *(f"{p:.4f}" for p in face.probabilities),
                ]
            )

    def close(self) -> None:
        self._file.close()
