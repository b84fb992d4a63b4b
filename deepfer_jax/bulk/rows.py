"""Rows: what is known of a photograph or of a frame of a video, as Arrow holds it.

    for picture in load(part):                        # reads and decodes
        row = describe(reader, picture)
    pa.Table.from_pylist(rows, row_schema(reader.classes))

A photograph has one row, with a list of its faces; one that cannot be read has an error
instead. A video has a row a frame, whose faces have the numbers of their tracks; one
that breaks off has a last row with the error. `is_last` says that no more rows of the
same id follow; it is not kept.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepfer_jax.bulk import places
from deepfer_jax.bulk.listing import Entry, entries_of
from deepfer_jax.data.images import decode_image, read_image, to_rgb
from deepfer_jax.errors import UserError
from deepfer_jax.exported import checksum
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.photos import find_in_smaller, make_smaller
from deepfer_jax.faces.tracking import Tracker
from deepfer_jax.faces.video import BrokenVideo, follow, open_frames

LAST = "is_last"
_SIDES = ("left", "top", "right", "bottom")
_ROWS = 64  # in a table
_READ_ROWS = 16  # of a table of pictures at a time
_BUFFER = 2**20  # or pyarrow holds the pictures of a whole row group


class Picture(NamedTuple):
    """A photograph that was read, or an error.

    Attributes:
      id: on the list.
      path: as its row names it.
      pixels: uint8 [h, w, 3], RGB, as `make_smaller` gives them; None with an error.
      width: of the file, upright, in pixels.
      height: likewise.
      error: why it cannot be read.
    """

    id: int
    path: str
    pixels: np.ndarray | None = None
    width: int | None = None
    height: int | None = None
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class ReaderOptions:
    """By what faces are read: the arguments of Analyzer, and the sums of the model."""

    model: str
    detector: str = "auto"
    cache: bool = True
    checksum: str | None = None


class Reader:
    """An Analyzer with what rows say of it.

    Raises:
      UserError: the model is not the one whose sums were given.
    """

    def __init__(self, options: ReaderOptions):
        self.analyzer = Analyzer(options.model, options.detector, options.cache)
        self.classes = self.analyzer.classes
        self.checksum = checksum(self.analyzer.metadata)
        if options.checksum not in (None, self.checksum):
            raise UserError(
                f"{options.model}: this machine's model is another than that of the "
                "machine that started: install the same version of deepfer_jax, or "
                "give a folder that all machines share"
            )


def row_schema(classes: Sequence[str]) -> pa.Schema:
    """The columns of a row, `is_last` among them."""
    number, text = pa.float32(), pa.string()
    face = [
        ("track", pa.int32()),
        ("label", text),
        ("probability", number),
        ("unsure", pa.bool_()),
        ("quality", number),
        ("reason", text),
        ("yaw", number),
        ("roll", number),
        ("box", pa.struct([(side, number) for side in _SIDES])),
        ("score", number),
        ("landmarks", pa.list_(pa.list_(number, 2))),
        ("probabilities", pa.struct([(name, number) for name in classes])),
    ]
    return pa.schema(
        [
            ("id", pa.int64()),
            ("path", text),
            ("frame", pa.int32()),
            ("time", pa.float64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("faces", pa.list_(pa.struct(face))),
            ("error", text),
            ("model", text),
            (LAST, pa.bool_()),
        ]
    )


def load(part: pa.Table) -> Iterator[Picture]:
    """Reads and decodes the photographs of a part of a list."""
    of_one = itertools.groupby(entries_of(part), lambda pair: pair[1][:2])
    for (path, column), group in of_one:
        if column is None:
            for number, entry in group:
                decode = functools.partial(_read_file, entry.path)
                yield _make_picture(number, entry, decode)
        else:
            yield from _load_table(path, column, list(group))


def _read_file(path: str) -> np.ndarray:
    if not places.is_address(path):
        return read_image(path)
    system, inner = places.locate(path)
    with system.open_input_stream(inner) as file:
        return decode_image(file.read(), math.inf)


def _load_table(
    path: str, column: str, group: list[tuple[int, Entry]]
) -> Iterator[Picture]:
    """The same, of rows of one table, in their order."""
    left = iter(group)
    try:
        rows = _read_rows(path, column, [entry.row or 0 for _, entry in group])
        for data, (number, entry) in zip(rows, left, strict=False):
            yield _make_picture(number, entry, functools.partial(_decode, data))
    except (pa.ArrowException, OSError) as error:
        for number, entry in left:
            yield Picture(number, _text(entry.name), error=f"not read: {error}")


def _decode(data: bytes | None) -> np.ndarray:
    if data is None:
        raise UserError("no picture")
    return decode_image(data, math.inf)


def _read_rows(path: str, column: str, wanted: list[int]) -> Iterator[bytes | None]:
    """The values of a column in some rows, which are in order."""
    system, inner = places.locate(path)
    options = {"filesystem": system, "buffer_size": _BUFFER}
    left, start = iter(wanted), 0
    next_row = next(left, None)
    with pq.ParquetFile(inner, **options) as table:
        for group in range(table.metadata.num_row_groups):
            end = start + table.metadata.row_group(group).num_rows
            if next_row is None:
                return
            if next_row < end:
                read = {"row_groups": [group], "columns": [column]}
                for batch in table.iter_batches(_READ_ROWS, **read):
                    while next_row is not None and next_row < start + batch.num_rows:
                        yield batch.column(0)[next_row - start].as_py()
                        next_row = next(left, None)
                    start += batch.num_rows
                    if next_row is None:
                        return
            start = end


def _make_picture(number: int, entry: Entry, decode) -> Picture:
    name = _text(entry.name)
    try:
        image = to_rgb(decode())
    except (UserError, OSError) as error:
        return Picture(number, name, error=str(error))
    height, width = image.shape[:2]
    return Picture(number, name, make_smaller(image), width, height)


def _text(path: str) -> str:
    """A path as text: names of files need not be that."""
    return os.fsencode(path).decode(errors="backslashreplace")


def read_part(reader: Reader, part: pa.Table) -> Iterator[pa.Table]:
    """Yields the rows of a part of a list: of photographs, or of one video."""
    if part["is_video"][0].as_py():
        ((number, entry),) = entries_of(part)
        rows = describe_video(reader, number, entry.path)
    else:
        rows = (describe(reader, picture) for picture in load(part))
    schema = row_schema(reader.classes)
    while some := list(itertools.islice(rows, _ROWS)):
        yield pa.Table.from_pylist(some, schema)


def describe(reader: Reader, picture: Picture) -> dict[str, Any]:
    """The row of a photograph."""
    faces: list[Face] | None = None
    if picture.pixels is not None:
        size = picture.width or 0, picture.height or 0
        faces = find_in_smaller(reader.analyzer, picture.pixels, *size)
    return {
        "id": picture.id,
        "path": picture.path,
        "width": picture.width,
        "height": picture.height,
        "faces": _face_dicts(faces, reader),
        "error": picture.error,
        "model": reader.checksum,
        LAST: True,
    }


def _face_dicts(faces: list[Face] | None, reader: Reader) -> list[dict] | None:
    if faces is None:
        return None
    dicts = [face.as_dict(reader.classes) for face in faces]
    return [x | {"box": dict(zip(_SIDES, x["box"], strict=True))} for x in dicts]


def describe_video(reader: Reader, number: int, path: str) -> Iterator[dict[str, Any]]:
    """The rows of a video: one a frame, and one more with the error that ends it."""
    rows = _describe_frames(reader, number, path)
    row = next(rows)
    for following in rows:
        yield row | {LAST: False}
        row = following
    yield row | {LAST: True}


def _describe_frames(reader: Reader, number: int, path: str) -> Iterator[dict]:
    analyzer = reader.analyzer
    tracker = Tracker(analyzer.classes, analyzer.threshold)
    known = {"id": number, "path": _text(path), "model": reader.checksum}
    frame = 0
    try:
        with _on_disk(path) as file, open_frames(file) as frames:
            for moment in follow(analyzer, frames, tracker):
                height, width = moment.image.shape[:2]
                yield known | {
                    "frame": moment.number,
                    "time": round(moment.time, 3),
                    "width": width,
                    "height": height,
                    "faces": _face_dicts(moment.faces, reader),
                }
                frame = moment.number + 1
    except (BrokenVideo, UserError, OSError) as error:
        yield known | {"frame": frame, "error": str(error)}


@contextlib.contextmanager
def _on_disk(path: str) -> Iterator[str]:
    """Gives a file of this machine's disk: OpenCV reads no other."""
    if not places.is_address(path):
        yield path
        return
    system, inner = places.locate(path)
    with tempfile.NamedTemporaryFile(suffix=os.path.splitext(inner)[1]) as copy:
        with system.open_input_stream(inner) as file:
            shutil.copyfileobj(file, copy)
        copy.flush()
        yield copy.name
