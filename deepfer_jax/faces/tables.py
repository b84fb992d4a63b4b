"""Tables of faces, a row a face: CSV and Parquet files that an interrupted run resumes.

    table = CsvTable("faces.csv", analyzer.classes)
    for path in paths:
        if str(path) not in table.done:
            table.write(str(path), faces)
    table.close()

A photograph without a face has one row, whose face is empty; so has one that cannot be
read, with its error. What is there already is kept, but for the photograph written
last, whose rows may be incomplete.
"""

import csv
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from deepfer_jax.errors import UserError
from deepfer_jax.faces.face import Face, rounded
from deepfer_jax.outputs import replacing


def columns(classes: Sequence[str]) -> list[str]:
    """Names of the columns: file, face (from 0), label, ..., a probability a class."""
    face = ["face", "label", "probability", "unsure", "quality", "reason"]
    box = ["left", "top", "right", "bottom", "score", "yaw", "roll"]
    return ["file", *face, *box, *classes, "error"]


def rows(
    file: str, faces: Sequence[Face], classes: Sequence[str], error: str | None = None
) -> list[dict[str, Any]]:
    """What is known of a photograph; what is not is None."""
    empty = dict.fromkeys(columns(classes)) | {"file": file, "error": error}
    if not faces:
        return [empty]
    return [
        empty
        | {
            "face": i,
            "label": face.label,
            "probability": round(face.probability, 5),
            "unsure": face.unsure,
            "quality": rounded(face.quality, 3),
            "reason": face.reason,
            "yaw": rounded(face.yaw, 1),
            "roll": rounded(face.roll, 1),
            "score": round(face.score, 4),
        }
        | dict(zip(("left", "top", "right", "bottom"), _rounded(face.box), strict=True))
        | dict(zip(classes, _rounded(face.probabilities, 5), strict=True))
        for i, face in enumerate(faces)
    ]


def _rounded(values, digits: int = 1) -> list[float]:
    return [round(float(x), digits) for x in values]


class CsvTable:
    """A CSV file.

    Args:
      path: of the file; rows are added to what is there.
      classes: names of the probabilities.

    Attributes:
      done: files that have their rows.

    Raises:
      UserError: it cannot be written, or is another table.
    """

    def __init__(self, path: str | os.PathLike, classes: Sequence[str]):
        self._classes, self._columns = tuple(classes), columns(classes)
        path = pathlib.Path(path)
        kept = self._keep(path) if path.exists() else []
        self.done = {row["file"] for row in kept}
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(kept)
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, self._columns)

    def _keep(self, path: pathlib.Path) -> list[dict[str, str]]:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != self._columns:
                raise UserError(
                    f"{path}: expected a table of this model, with the columns "
                    f"{', '.join(self._columns)}: remove it, or name another file"
                )
            there = list(reader)
        last = there[-1]["file"] if there else None
        return [row for row in there if row["file"] != last]

    def write(self, file: str, faces: Sequence[Face], error: str | None = None) -> None:
        for row in rows(file, faces, self._classes, error):
            if row["unsure"] is not None:
                row["unsure"] = int(row["unsure"])
            self._writer.writerow(row)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class ParquetTable:
    """A Parquet file; until it is closed its rows lie in `<path>.part`.

    Arguments, attributes and errors as of CsvTable; needs pyarrow.
    """

    def __init__(self, path: str | os.PathLike, classes: Sequence[str]):
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UserError(
                '--parquet needs pyarrow: pip install "deepfer_jax[tables]"'
            ) from None
        self._arrow, self._path = pyarrow, pathlib.Path(path)
        self._classes = tuple(classes)
        self._part = self._path.with_name(f"{self._path.name}.part")
        kept = self._keep()
        self.done = {row["file"] for row in kept}
        with replacing(self._part) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self._file = self._part.open("a")

    def _keep(self) -> list[dict[str, Any]]:
        if self._part.exists():
            there = _whole_lines(self._part)
            last = there[-1]["file"] if there else None
            return [row for row in there if row["file"] != last]
        if self._path.exists():
            return self._arrow.parquet.read_table(self._path).to_pylist()
        return []

    def write(self, file: str, faces: Sequence[Face], error: str | None = None) -> None:
        for row in rows(file, faces, self._classes, error):
            self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Writes the Parquet file, and removes the other."""
        self._file.close()
        pa = self._arrow
        types = dict.fromkeys(("file", "label", "reason", "error"), pa.string())
        types |= {"face": pa.int32(), "unsure": pa.bool_()}
        schema = pa.schema(
            [(name, types.get(name, pa.float32())) for name in columns(self._classes)]
        )
        table = pa.Table.from_pylist(_whole_lines(self._part), schema=schema)
        with replacing(self._path) as temporary:
            pa.parquet.write_table(table, temporary)
        self._part.unlink()


def _whole_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    lines = path.read_text().split("\n")[:-1]  # the last is empty or cut off
    return [json.loads(line) for line in lines]
