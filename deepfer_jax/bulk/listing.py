"""The list of all that is to be read: made once, kept on disk, read in parts.

    write_listing(path, find(["photos/", "s3://bucket/**/*.jpg"]), about)
    listing = Listing(path)
    for part in listing.parts(is_video=False, done, size=64):
        part["id"], part["path"]

What lies there has a number, `id`, by which its rows are known: so that a run which
starts again reads what is missing, whatever has come to the folders meanwhile, and no
set of paths has to be kept in memory. A million photographs take 10 MB on disk.
"""

import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepfer_jax.bulk import places
from deepfer_jax.data.images import is_image_name
from deepfer_jax.errors import UserError
from deepfer_jax.outputs import replacing

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}
TABLE_SUFFIX = ".parquet"
# Columns of a table that are taken for pictures without being named.
_COLUMNS = ("path", "file", "bytes", "image", "jpg", "png")
# A path is bytes: names of files need not be text.
_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("path", pa.binary()),
        ("column", pa.string()),
        ("row", pa.int64()),
        ("is_video", pa.bool_()),
    ]
)
_ROWS = 10_000  # written at a time


class Entry(NamedTuple):
    """Something to read.

    Attributes:
      path: of a photograph, a video, or a table that holds pictures.
      column: of that table, which holds their bytes; None of a file.
      row: of that table.
    """

    path: str
    column: str | None = None
    row: int | None = None

    @property
    def name(self) -> str:
        """As rows name it: `table.parquet#7` of a row of a table."""
        return self.path if self.row is None else f"{self.path}#{self.row}"

    @property
    def is_video(self) -> bool:
        return self.row is None and _suffix(self.path) in VIDEO_SUFFIXES


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


class _Input(NamedTuple):
    """What a person named: a file, a folder, or all that matches a pattern."""

    root: str
    kind: str | None
    pattern: re.Pattern[str] | None = None

    def covers(self, path: str) -> bool:
        if self.pattern is not None:
            return bool(self.pattern.fullmatch(path))
        if self.kind == "file" or self.root.endswith(TABLE_SUFFIX):
            return path == self.root
        return path.startswith(f"{self.root.rstrip('/')}/") and _is_wanted(path)

    def files(self) -> Iterator[str]:
        if self.kind == "file" or self.root.endswith(TABLE_SUFFIX):
            yield self.root
        else:
            yield from filter(self.covers, places.walk(self.root))


def _is_wanted(path: str) -> bool:
    name = pathlib.Path(path)
    is_video = _suffix(path) in VIDEO_SUFFIXES and not name.name.startswith(".")
    return is_video or is_image_name(name)


def spell(given: str) -> str:
    """An input, the same in whatever folder the command is run."""
    return given if places.is_address(given) else os.path.abspath(given)


def _parse(given: str) -> _Input:
    path = spell(given)
    if places.is_pattern(path):
        root = places.root_of(path)
        if places.kind_of(root) != "folder":
            raise UserError(f"{given}: there is no folder {root}")
        return _Input(root, "folder", places.compile_pattern(path))
    path, kind = path.rstrip("/") or "/", places.kind_of(path)
    if kind is None:
        raise UserError(f"{given}: no such file or folder")
    return _Input(path, kind)


def find(inputs: Sequence[str], column: str | None = None) -> Iterator[Entry]:
    """Yields all that the inputs name, each once, in no order; holds nothing of it.

    Args:
      inputs: files, folders, patterns, or Parquet tables of paths or of bytes.
      column: of those tables; None for the one that is there.

    Raises:
      UserError: there is no such input, or a table has no such column.
    """
    parsed = [_parse(path) for path in inputs]
    for number, one in enumerate(parsed):
        for path in one.files():
            if any(other.covers(path) for other in parsed[:number]):
                continue
            if path.endswith(TABLE_SUFFIX):
                folder = path.rpartition("/")[0]
                yield from _find_in_table(path, column, folder)
            else:
                yield Entry(path)


def _find_in_table(path: str, column: str | None, folder: str) -> Iterator[Entry]:
    """What a table names; relative paths are of the folder that it lies in."""
    if places.kind_of(path) == "folder":
        files = [x for x in places.walk(path) if _is_part(x)]
        for file in sorted(files):
            yield from _find_in_table(file, column, folder)
        return
    system, inner = places.locate(path)
    try:
        with pq.ParquetFile(inner, filesystem=system) as table:
            column, holds_bytes = _choose_column(path, table.schema_arrow, column)
            if holds_bytes:
                for row in range(table.metadata.num_rows):
                    yield Entry(path, column, row)
                return
            for batch in table.iter_batches(4096, columns=[column]):
                for value in batch.column(0).to_pylist():
                    yield Entry(_resolve(value or "", folder))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet table: {error}") from None


def _is_part(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith(TABLE_SUFFIX) and name[0] not in "._"


def _resolve(path: str, folder: str) -> str:
    if places.is_address(path) or os.path.isabs(path):
        return path
    return f"{folder}/{path}"


def _choose_column(path: str, schema: pa.Schema, name: str | None) -> tuple[str, bool]:
    """The column to read, and whether it holds bytes."""
    names = [name] if name else [x for x in _COLUMNS if x in schema.names]
    if len(names) != 1 or names[0] not in schema.names:
        wanted = name or f"one of {', '.join(_COLUMNS)}"
        raise UserError(
            f"{path}: expected a column {wanted}, found {', '.join(schema.names)}: "
            "name it with --column"
        )
    kind = schema.field(names[0]).type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return names[0], True
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return names[0], False
    raise UserError(
        f"{path}: column {names[0]}: expected paths (text) or bytes, found {kind}"
    )


def write_listing(
    path: pathlib.Path, entries: Iterable[Entry], about: dict[str, str]
) -> None:
    """Writes a list, whole or not at all.

    Args:
      path: of the file.
      entries: what is on it.
      about: what is to be known of it.
    """
    with replacing(path) as temporary:
        schema = _SCHEMA.with_metadata(about)
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            rows: list[dict] = []
            num = 0
            for num, entry in enumerate(entries, 1):
                rows.append(
                    entry._asdict()
                    | {"id": num - 1, "is_video": entry.is_video}
                    | {"path": os.fsencode(entry.path)}
                )
                if len(rows) == _ROWS:
                    writer.write_table(pa.Table.from_pylist(rows, schema))
                    rows = []
            writer.write_table(pa.Table.from_pylist(rows, schema))


class Listing:
    """A list that `write_listing` wrote.

    Attributes:
      about: what is known of it.
      num: how much is on it.
      num_videos: how many of that are videos.

    Raises:
      UserError: it is not one.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        try:
            with pq.ParquetFile(path) as file:
                if not file.schema_arrow.equals(_SCHEMA):
                    raise pa.ArrowInvalid("other columns")
                metadata = file.schema_arrow.metadata or {}
                self.num = file.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is damaged ({error}): remove its folder") from None
        self.about = {
            name.decode(): value.decode()
            for name, value in metadata.items()
            if name != b"ARROW:schema"
        }
        self.num_videos = sum(part.num_rows for part in self.parts(True, None, _ROWS))

    def parts(
        self, is_video: bool, done: np.ndarray | None, size: int
    ) -> Iterator[pa.Table]:
        """Yields what is left to read, at most `size` at a time.

        Args:
          is_video: whether videos are wanted, or all else.
          done: bool [num], what is not wanted; None for nothing.
          size: of a part.
        """
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(_ROWS):
                table = pa.Table.from_batches([batch])
                wanted = table["is_video"].to_numpy() == is_video
                if done is not None:
                    wanted &= ~done[table["id"].to_numpy()]
                table = table.filter(pa.array(wanted))
                for start in range(0, table.num_rows, size):
                    yield table.slice(start, size)


def part_size(num: int, workers: int) -> int:
    """How many to give to a worker at a time.

    Few enough that all have work until the end, and that little is done again for a
    worker that is lost; many enough that a table's row group, which can only be read
    from its beginning, is not begun too often.

    >>> part_size(1_000_000, 2), part_size(400, 2)
    (1024, 25)
    """
    return min(max(num // (8 * workers), 16), 1024)


def entries_of(part: pa.Table) -> Iterator[tuple[int, Entry]]:
    """Yields (id, entry) of a part of a list."""
    for row in part.to_pylist():
        path = os.fsdecode(row["path"])
        yield row["id"], Entry(path, row["column"], row["row"])
