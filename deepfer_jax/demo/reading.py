"""From an image's bytes to its faces, beside the event loop, each client in its turn.

    readers = Readers(analyzer)
    client = Client()
    reading = await readers.read_frame(client, data)      # raises Refused

Three queues, each with threads of its own, so that none waits for what another's
clients ask for:

    frames      small images of streams: decoded and read by two threads
    photos      all others: one thread, which gives way to frames
    new sizes   decoded images of a size that was never read: one thread, for a size may
                have to be compiled, which takes seconds and hundreds of megabytes
"""

import asyncio
import collections
import contextlib
import dataclasses
import heapq
import itertools
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from deepfer_jax.data.images import Photo
from deepfer_jax.demo import limits
from deepfer_jax.demo.decoding import Decoder, Refused
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.explain import Explainer
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.photos import find_faces, scale_faces

_log = logging.getLogger(__name__)
_LATE_SECONDS = 0.1
_NUM_SIZES = 1000
_PENALTY = 2
# Who is busy all the time would be further behind each second, and then behind all
# who come anew.
_MAX_PENALTY = 0.25
_NUM_NEW = 8  # each with all its pixels
_GIVE_WAY_SECONDS = 0.05


class Reading(NamedTuple):
    """An image that was read; boxes of faces are in its pixels.

    explanations are pictures of the first faces, uint8 [H, W, 3], where they were asked
    for.
    """

    width: int
    height: int
    faces: list[Face]
    explanations: list[np.ndarray]


class Client:
    """Whose turn it is: when the next is due in each `FairQueue`."""

    def __init__(self):
        self.due: dict[FairQueue, float] = {}


@dataclasses.dataclass
class _Job:
    client: Client
    data: bytes
    done: asyncio.Future
    kind: str = "frame"  # or "still", or "why": a still that is explained
    photo: Photo | None = None

    def finish(self, result: Reading | None, error: Exception | None = None) -> None:
        """Sets the future, from any thread."""

        def put() -> None:
            if self.done.done():  # its client has left
                return
            if error is None:
                self.done.set_result(result)
            else:
                self.done.set_exception(error)

        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.done.get_loop().call_soon_threadsafe(put)


class FairQueue:
    """Jobs in the order in which clients have a right to them.

    A job's turn is when it comes; but not before its client has made up for what its
    last one took, _PENALTY times over, by which others come first; at most
    _MAX_PENALTY seconds. So who sends what is costly waits longer, and delays others no
    more; and none waits for ever, for the turns of those who come later are later too.
    """

    def __init__(self, max_jobs: int):
        self._max_jobs = max_jobs
        self._heap: list[tuple[float, int, _Job]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()

    def put(self, job: _Job) -> None:
        """Raises Refused if there are too many."""
        with self._changed:
            if len(self._heap) >= self._max_jobs:
                raise busy()
            turn = max(time.monotonic(), job.client.due.get(self, 0.0))
            heapq.heappush(self._heap, (turn, next(self._numbers), job))
            self._changed.notify()

    def take(self) -> _Job:
        """Waits for the next job."""
        with self._changed:
            while not self._heap:
                self._changed.wait()
            return heapq.heappop(self._heap)[2]

    def charge(self, client: Client, seconds: float) -> None:
        """Tells what a client's job took."""
        with self._changed:
            now = time.monotonic()
            due = max(now - seconds, client.due.get(self, 0.0)) + _PENALTY * seconds
            client.due[self] = min(due, now + _MAX_PENALTY)


class Cameras:
    """Whether frames of cameras wait for an answer: photographs give way to them."""

    def __init__(self):
        self._num = 0
        self._none = threading.Condition()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While a frame waits."""
        with self._none:
            self._num += 1
        try:
            yield
        finally:
            with self._none:
                self._num -= 1
                self._none.notify_all()

    def give_way(self) -> None:
        """Returns when no frame waits, or when that has taken long."""
        with self._none:
            self._none.wait_for(lambda: self._num == 0, _GIVE_WAY_SECONDS)


class _Patient:
    """An analyzer that gives way to cameras before every frame or tile.

    A photograph is dozens of tiles, each a few milliseconds on all cores: a camera's
    frame waits for one of them, not for all.
    """

    def __init__(self, analyzer: Analyzer, cameras: Cameras):
        self._analyzer, self._cameras = analyzer, cameras
        self.detector = analyzer.detector

    def analyze(self, frames: np.ndarray) -> list[list[Face]]:
        faces = []
        for frame in frames[None] if frames.ndim == 3 else frames:
            self._cameras.give_way()
            faces += self._analyzer.analyze(frame)
        return faces


class Budget:
    """Bytes of large images that wait, of all clients together."""

    def __init__(self, num_bytes: int):
        self._left = num_bytes

    def take(self, num: int) -> bool:
        """Whether there is room; if so it is taken."""
        if num > self._left:
            return False
        self._left -= num
        return True

    def give(self, num: int) -> None:
        self._left += num

    @contextlib.contextmanager
    def hold(self, num: int) -> Iterator[None]:
        """Raises Refused if there is no room."""
        if not self.take(num):
            raise busy()
        try:
            yield
        finally:
            self.give(num)


def busy() -> Refused:
    return Refused("busy", "too much is waiting: try again in a few seconds", 503)


class Readers:
    """The queues, their threads and their decoders, of one analyzer."""

    def __init__(self, analyzer: Analyzer):
        self._analyzer, self._cameras = analyzer, Cameras()
        self._patient = _Patient(analyzer, self._cameras)
        self._frames = FairQueue(limits.MAX_STREAMS)
        self._photos = FairQueue(limits.WAITING_PHOTOS)
        self._new = FairQueue(_NUM_NEW)
        self.waiting = Budget(limits.WAITING_BYTES)
        self._known: collections.OrderedDict[tuple, bool] = collections.OrderedDict()
        self._explainer: Explainer | None = None
        self._explainer_lock = threading.Lock()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._frame_decoders = [
            Decoder(limits.FRAME_PIXELS, limits.FRAME_MEMORY, limits.FRAME_SECONDS)
            for _ in range(limits.FRAME_DECODERS)
        ]
        self._photo_decoder = Decoder(
            limits.MAX_PIXELS, limits.PHOTO_MEMORY, limits.PHOTO_SECONDS, nice=10
        )
        self._is_started = False

    def start(self) -> None:
        """Starts threads and decoders, unless they run."""
        if self._is_started:
            return
        self._is_started = True
        for decoder in (*self._frame_decoders, self._photo_decoder):
            decoder.start()
        tasks: list[tuple] = [(self._work, self._photos, self._photo_decoder)]
        tasks += [(self._work, self._frames, d) for d in self._frame_decoders]
        tasks += [(self._work, self._new, None), (self._watch,)]
        for task, *arguments in tasks:
            # Not waited for when the server ends: nothing stops a compilation.
            threading.Thread(target=task, args=arguments, daemon=True).start()

    def close(self) -> None:
        """Ends the decoders."""
        self._end.set()
        for decoder in (*self._frame_decoders, self._photo_decoder):
            decoder.close()

    def warm_up(self, height: int, width: int) -> None:
        """Compiles for frames of a size, so that the first need not wait."""
        self._analyzer.analyze(np.zeros((height, width, 3), np.uint8))
        self._remember((height, width, "frame"))

    async def read_frame(self, client: Client, data: bytes) -> Reading:
        """Reads a frame of a stream, in the turn of its client.

        Raises:
          Refused: not an image that can be read, or there is no room for it.
        """
        if len(data) > limits.FRAME_BYTES:
            return await self._put(self._photos, client, data)
        with self._cameras.waiting():
            return await self._put(self._frames, client, data)

    async def read_photo(
        self, client: Client, data: bytes, explain: bool = False
    ) -> Reading:
        """As `read_frame`, behind other photographs.

        Args:
          client: whose it is.
          data: the image.
          explain: whether the first faces are explained too.
        """
        return await self._put(
            self._photos, client, data, "why" if explain else "still"
        )

    async def _put(
        self, queue: FairQueue, client: Client, data: bytes, kind: str = "frame"
    ) -> Reading:
        self.start()
        done = asyncio.get_running_loop().create_future()
        job = _Job(client, data, done, kind)
        queue.put(job)
        return await job.done

    def _watch(self) -> None:
        while not self._end.wait(_LATE_SECONDS):
            for decoder in (*self._frame_decoders, self._photo_decoder):
                decoder.end_if_late()

    def _work(self, queue: FairQueue, decoder: Decoder | None) -> None:
        while not self._end.is_set():
            job = queue.take()
            if job.done.done():  # its client has left
                continue
            began = time.perf_counter()
            try:
                reading = self._read(job, decoder, queue)
            except Exception as error:
                job.finish(None, error)
            else:
                if reading is not None:
                    job.finish(reading)
            queue.charge(job.client, time.perf_counter() - began)
            if decoder is not None:  # another, if it was ended, before it is needed
                decoder.start()

    def _read(self, job: _Job, decoder: Any, queue: FairQueue) -> Reading | None:
        """Reads it, or puts it into another queue, where that is right: None."""
        if job.photo is None:
            try:
                job.photo = decoder.decode(job.data)
            except Refused as refused:
                if refused.code != "too_large" or queue is not self._frames:
                    raise
                self._photos.put(job)
                return None
            job.data = b""
        size = job.photo.pixels.shape[:2]
        if queue is not self._new and not self._knows((*size, job.kind)):
            self._new.put(job)
            return None
        faces = self._find(job.photo.pixels, job.kind)
        explanations = []
        if job.kind == "why" and faces:
            some = faces[: limits.EXPLAINED_FACES]
            explanations = self._explain(job.photo.pixels, some)
        self._remember((*size, job.kind))
        _, width, height = job.photo
        factor = np.array([width / size[1], height / size[0]], np.float32)
        return Reading(width, height, scale_faces(faces, factor), explanations)

    def _find(self, pixels: np.ndarray, kind: str) -> list[Face]:
        if kind == "frame":
            return self._analyzer.analyze(pixels)[0]
        return find_faces(self._patient, pixels)

    def _explain(self, pixels: np.ndarray, faces: list[Face]) -> list[np.ndarray]:
        """Pictures of faces; gives way to cameras before each."""
        with self._explainer_lock:
            if self._explainer is None:
                about = (self._analyzer.folder, self._analyzer.detector)
                self._explainer = Explainer(*about, cache=self._analyzer.cache)
        pictures = []
        for face in faces:
            self._cameras.give_way()
            pictures += self._explainer.explain(pixels, [face])
        return pictures

    def _knows(self, size: tuple[int, int, str]) -> bool:
        with self._lock:
            return size in self._known

    def _remember(self, size: tuple[int, int, str]) -> None:
        """Sizes that are read often stay known, however many others come."""
        with self._lock:
            self._known[size] = True
            self._known.move_to_end(size)
            if len(self._known) > _NUM_SIZES:
                self._known.popitem(last=False)
