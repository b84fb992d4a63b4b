"""Reads a list on a Ray cluster: `read(listing, done, options, address)`.

Ray Data's tasks read and decode photographs, and its actors, which live as long as the
work lasts, load the model and find faces; rows come to this process, which alone writes
them (`deepfer_jax.bulk.parts`). A worker or a node that is lost is work done again by
others, of which each row comes here once; only this process is not replaced, and the
same command goes on where it was.

An actor has a GPU to itself where there are any, and the tasks have the CPUs. Without,
there is an actor for each CPU, which runs on one core (two actors on a core each read
more than one on two), and Ray Data lets it do the tasks' work too, as both ask for the
same: so no pixels pass from process to process, and no core waits for another.

An actor calls `Analyzer` for a picture at a time, whose programs have a few fixed
shapes (one frame, and eight tiles at once on an accelerator), which it compiles once,
or finds in the user's cache on its machine (`deepfer_jax.executables`). jax is started
in the actor alone: Ray's workers are no forks of a process that has threads of jax.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from deepfer_jax.bulk import rows
from deepfer_jax.bulk.listing import Listing, part_size
from deepfer_jax.errors import UserError

# Pictures that go to an actor at once.
_BATCH = 32
# Bytes of pixels that a task hands on at once: a batch of photographs of 1920 pixels
# would be 350 MB.
_MAX_BYTES = 64e6
_OF_A_WORKER = re.compile(r"^deepfer_jax\.\S*Error: (.*)$", re.MULTILINE)
# Of a GPU's memory; jax takes it when it starts.
_GPU_FRACTION = "0.6"


def import_ray():
    """Returns Ray, with its Data.

    Raises:
      UserError: it is not installed.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError(
            '--address needs Ray: pip install "deepfer_jax[bulk]"'
        ) from None
    return ray


def read(
    listing: Listing, done: np.ndarray, options: rows.ReaderOptions, address: str
) -> Iterator[pa.Table]:
    """Yields rows of all that is not done, as `rows.row_schema` has them, in no order.

    Args:
      listing: what there is; every node must be able to read it under the same paths.
      done: bool [num], what is not wanted.
      options: of the readers.
      address: of the cluster, as `ray.init` takes it; "local" starts one here.

    Raises:
      UserError: Ray is missing, or no cluster is there.
    """
    ray = import_ray()
    _connect(ray, address)
    try:
        workers, _ = _plan(ray.cluster_resources())
        size = part_size(listing.num - int(done.sum()), workers)
        for is_video in (False, True):
            parts = listing.parts(is_video, done, 1 if is_video else size)
            refs = [ray.put(part.combine_chunks()) for part in parts]
            if refs:
                yield from _start(address)(refs, is_video, options)
    except Exception as error:  # Ray's, and its Data's, of many kinds
        raise _user_error(error) from None
    finally:
        ray.shutdown()


def _start(address: str) -> Callable[..., Iterator[pa.Table]]:
    """What runs Ray Data: this process, or one of a cluster that is far."""
    return _run_far if address.startswith("ray://") else run


def run(refs: list, is_video: bool, options: rows.ReaderOptions) -> Iterator[pa.Table]:
    """Reads parts of a list, which lie in Ray's store."""
    ray = import_ray()
    _be_quiet(ray)
    workers, asked = _plan(ray.cluster_resources())
    data = ray.data.from_arrow_refs(refs)
    if not is_video:
        data = data.map_batches(
            decode, batch_size=None, batch_format="pyarrow", num_cpus=1
        )
    data = data.map_batches(
        ReadVideos if is_video else ReadFaces,
        fn_constructor_args=(options,),
        batch_size=None if is_video else _BATCH,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=workers, initial_size=workers
        ),
        **asked,
    )
    yield from data.iter_batches(batch_size=None, batch_format="pyarrow")


def _run_far(refs: list, is_video: bool, options: rows.ReaderOptions):
    """As `run`, in an actor: a client, `ray://`, cannot run Ray Data itself.

    The actor is never started again, or rows would come twice: if it is lost, the
    command ends, and is run again.
    """
    ray = import_ray()
    runner = ray.remote(num_cpus=0)(_Runner).remote(refs, is_video, options)
    while (table := ray.get(runner.next.remote())) is not None:
        yield table


class _Runner:
    def __init__(self, refs: list, is_video: bool, options: rows.ReaderOptions):
        self._tables = run(refs, is_video, options)

    def next(self) -> pa.Table | None:
        return next(self._tables, None)


def _connect(ray, address: str) -> None:
    try:
        ray.init(address, logging_level="ERROR", log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        said = str(error).strip().splitlines()
        raise UserError(
            f"--address {address}: no Ray cluster: {' '.join(said[:3])}"
        ) from None


def _be_quiet(ray) -> None:
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False


def _user_error(error: Exception) -> Exception:
    """What a person can mend: the last line of what Ray tells of a worker's error."""
    said = _OF_A_WORKER.findall(str(error))
    return UserError(said[-1]) if said else error


def _plan(resources: dict[str, float]) -> tuple[int, dict[str, float]]:
    """How many actors there are at most, and what each asks Ray for."""
    if gpus := int(resources.get("GPU", 0)):
        return gpus, {"num_gpus": 1, "num_cpus": 0}
    return max(1, int(resources.get("CPU", 1))), {"num_cpus": 1}


def decode(part: pa.Table) -> Iterator[pa.Table]:
    """A part of a list as pictures: pixels as bytes, whatever their shape."""
    some: list[dict] = []
    num_bytes = 0
    for picture in rows.load(part):
        row: dict = picture._asdict()
        if picture.pixels is not None:
            shape = dict(zip(("rows", "columns"), picture.pixels.shape, strict=False))
            row |= shape | {"pixels": picture.pixels.tobytes()}
            num_bytes += picture.pixels.nbytes
        some.append(row)
        if len(some) == _BATCH or num_bytes > _MAX_BYTES:
            yield pa.Table.from_pylist(some, _PICTURES)
            some, num_bytes = [], 0
    if some:
        yield pa.Table.from_pylist(some, _PICTURES)


_PICTURES = pa.schema(
    [
        ("id", pa.int64()),
        ("path", pa.string()),
        ("pixels", pa.large_binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("error", pa.string()),
        ("rows", pa.int32()),
        ("columns", pa.int32()),
    ]
)


class _Actor:
    """Loads the model in a process of a worker."""

    def __init__(self, options: rows.ReaderOptions):
        # Before jax starts: on a CPU one thread for its one core; of a GPU, room for
        # what others have on it.
        os.environ.setdefault("NPROC", "1")
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", _GPU_FRACTION)
        self._reader = rows.Reader(options)
        self._schema = rows.row_schema(self._reader.classes)


class ReadFaces(_Actor):
    """Pictures to rows."""

    def __call__(self, pictures: pa.Table) -> pa.Table:
        found = [
            rows.describe(self._reader, _to_picture(row)) for row in _dicts(pictures)
        ]
        return pa.Table.from_pylist(found, self._schema)


def _dicts(pictures: pa.Table) -> Iterator[dict]:
    """Rows of a table; pixels stay where they are."""
    columns = [pictures[name] for name in pictures.column_names]
    for values in zip(*columns, strict=True):
        yield {
            name: value.as_buffer() if name == "pixels" else value.as_py()
            for name, value in zip(pictures.column_names, values, strict=True)
        }


def _to_picture(row: dict) -> rows.Picture:
    shape = row.pop("rows"), row.pop("columns"), 3
    if row["pixels"] is not None:
        row["pixels"] = np.frombuffer(row["pixels"], np.uint8).reshape(shape)
    return rows.Picture(**row)


class ReadVideos(_Actor):
    """One video to its rows, some at a time."""

    def __call__(self, part: pa.Table) -> Iterator[pa.Table]:
        yield from rows.read_part(self._reader, part)
