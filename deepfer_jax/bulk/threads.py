"""Reads a list in this process, on all its cores: `read(listing, done, options)`.

As many threads as cores read, decode and find faces, each a part of the list at a time;
what they have found waits in a queue of bounded length, so that memory does not grow.
Decoders and compiled programs let go of Python's lock.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import pyarrow as pa

from deepfer_jax.bulk.listing import Listing, part_size
from deepfer_jax.bulk.rows import Reader, ReaderOptions, read_part

_Work = TypeVar("_Work")
_Result = TypeVar("_Result")


def read(
    listing: Listing, done: np.ndarray, options: ReaderOptions
) -> Iterator[pa.Table]:
    """Yields rows of all that is not done, as `rows.row_schema` has them, in no order.

    Args:
      listing: what there is.
      done: bool [num], what is not wanted.
      options: of the reader.
    """
    reader, cores = Reader(options), _count_cores()
    size = part_size(listing.num - int(done.sum()), cores)
    for is_video in (False, True):
        parts = listing.parts(is_video, done, 1 if is_video else size)
        yield from in_threads(lambda part: read_part(reader, part), parts, cores)


def _count_cores() -> int:
    """Those that this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(
    work: Callable[[_Work], Iterable[_Result]], items: Iterator[_Work], num: int
) -> Iterator[_Result]:
    """Yields what `work` gives of each item, as it comes.

    Raises:
      Exception: what work or items raised, in the first thread that did.
    """
    results: queue.Queue = queue.Queue(2 * num)
    lock, over = threading.Lock(), threading.Event()

    def be_worker() -> None:
        try:
            while not over.is_set():
                with lock:
                    item = next(items, None)
                if item is None:
                    break
                for result in work(item):
                    results.put(("result", result))
                    if over.is_set():
                        return
            results.put(("end", None))
        except BaseException as error:
            results.put(("error", error))

    threads = [threading.Thread(target=be_worker, daemon=True) for _ in range(num)]
    for thread in threads:
        thread.start()
    try:
        left = num
        while left:
            kind, value = results.get()
            if kind == "error":
                raise value
            if kind == "result":
                yield value
            else:
                left -= 1
    finally:
        over.set()
        while any(thread.is_alive() for thread in threads):
            with contextlib.suppress(queue.Empty):
                results.get(timeout=0.1)  # or what a thread puts would wait for ever
