"""The folder of rows: Parquet files that appear whole, so that nothing is there twice.

    with Parts(folder, schema, num=len(listing)) as parts:
        for table in tables:                 # of rows of what is not in parts.done
            parts.write(table)

One process writes, whoever reads the photographs: rows come to it, are gathered, and
become `photos-000001.parquet` and so on; each video has a file of its own. A file is
written under another name, brought to the disk, and renamed; so, whatever is killed and
when, its rows are there or not. What is there is done, and what is not is read again:
no second record could disagree with the rows. (Ray Data's checkpoints are such a
record, of ids written beside the rows; they serve Ray alone.) A lock keeps a second
process out.

Names that begin with `_` or `.` are left out by what reads a folder of Parquet files.
"""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deepfer_jax.bulk.rows import LAST
from deepfer_jax.errors import UserError
from deepfer_jax.outputs import replacing

# Rows are written at least so often, so that a kill costs no more.
_SECONDS = 30
_LOCK = "_lock"


class Parts:
    """Writes a folder of rows, beside those that are there.

    Args:
      folder: of the files; made if it is missing.
      schema: of rows.
      num: of ids, which are 0 to num - 1.
      rows_in_part: of photographs in a file.

    Attributes:
      done: bool [num], the ids that have their rows.
      num_faces: in the rows written by this object.
      num_errors: likewise.

    Raises:
      UserError: a file there is damaged or of another model, or the disk is full.
    """

    def __init__(self, folder: pathlib.Path, schema: pa.Schema, num: int, rows_in_part):
        self._folder, self._rows_in_part = folder, rows_in_part
        self._schema = schema.remove(schema.get_field_index(LAST))
        self.done = np.zeros(num, bool)
        self.num_faces = self.num_errors = 0
        self._waiting: list[pa.Table] = []
        self._written = time.monotonic()
        self._stack = contextlib.ExitStack()
        self._videos: dict[int, tuple[Any, contextlib.ExitStack]] = {}
        self._last_number = 0

    def __enter__(self) -> "Parts":
        for path in self._folder.glob(".*.tmp.parquet"):
            path.unlink()  # of a process that was killed
        for path in sorted(self._folder.glob("[a-z]*.parquet")):
            self._read_done(path)
        return self

    def __exit__(self, kind, *_) -> None:
        """Writes what waits, also after an error: it is read already."""
        for _, stack in self._videos.values():
            stack.pop_all().__exit__(RuntimeError, RuntimeError(), None)
        self._flush()

    def _read_done(self, path: pathlib.Path) -> None:
        try:
            with pq.ParquetFile(path) as file:
                if not file.schema_arrow.equals(self._schema):
                    raise pa.ArrowInvalid("it has other columns")
                for batch in file.iter_batches(columns=["id"]):
                    self.done[batch.column(0).to_numpy()] = True
        except (pa.ArrowException, OSError, IndexError) as error:
            raise UserError(
                f"{path}: not whole rows of this run ({error}): remove it, and its "
                "photographs are read again"
            ) from None
        name, _, number = path.stem.partition("-")
        if name == "photos" and number.isdecimal():
            self._last_number = max(self._last_number, int(number))

    def write(self, table: pa.Table) -> int:
        """Takes rows: of any photographs, or of one video, in the order of frames.

        Returns:
          Of how many ids they are the last.
        """
        if not table.num_rows:
            return 0
        is_last = table[LAST][-1].as_py()
        rows = table.drop_columns([LAST]).cast(self._schema)
        self.num_errors += rows.num_rows - rows["error"].null_count
        self.num_faces += pc.sum(pc.list_value_length(rows["faces"])).as_py() or 0
        if rows["frame"].null_count == rows.num_rows:
            self._waiting.append(rows)
            late = time.monotonic() - self._written > _SECONDS
            if late or sum(map(len, self._waiting)) >= self._rows_in_part:
                self._flush()
        else:
            self._write_video(rows, is_last)
        return pc.sum(table[LAST]).as_py()

    def _flush(self) -> None:
        if self._waiting:
            self._last_number += 1
            path = self._folder / f"photos-{self._last_number:06}.parquet"
            rows = pa.concat_tables(self._waiting)
            with _whole(path) as temporary:
                pq.write_table(rows, temporary, compression="zstd")
            self._note(rows)
        self._waiting, self._written = [], time.monotonic()

    def _write_video(self, rows: pa.Table, is_last: bool) -> None:
        number = rows["id"][0].as_py()
        if number not in self._videos:
            stack = contextlib.ExitStack()
            path = self._folder / f"video-{number:09}.parquet"
            temporary = stack.enter_context(_whole(path))
            writer = pq.ParquetWriter(temporary, self._schema, compression="zstd")
            self._videos[number] = stack.enter_context(writer), stack
        writer, stack = self._videos[number]
        writer.write_table(rows)
        if is_last:
            del self._videos[number]
            stack.close()
            self._note(rows)

    def _note(self, rows: pa.Table) -> None:
        self.done[rows["id"].to_numpy()] = True


@contextlib.contextmanager
def _whole(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """As `outputs.replacing`, and on the disk before it has its name."""
    with replacing(path) as temporary:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds a folder for this process; the lock ends with it, however it ends.

    Raises:
      UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process writes there") from None
        yield
