"""Where files lie: on this machine's disks, or at an address that pyarrow reads.

    system, path = locate("s3://bucket/photos/a.jpg")
    with system.open_input_stream(path) as file:
        data = file.read()

Addresses are `scheme://place/key`: s3, gs, abfs, hdfs, file and what else this pyarrow
knows. Credentials, regions and endpoints come from where those services' own tools take
them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and so on), so that none stands in a table.
"""

import functools
import os
import re
from collections.abc import Iterator

import pyarrow as pa
from pyarrow import fs

from deepfer_jax.errors import UserError

_WILD = re.compile(r"[*?\[]")
# Of a pattern: what any number of folders, a name's letters, one letter and one of some
# letters stand for. Anything else means itself.
_PARTS = re.compile(r"(?P<folders>\*\*/)|(?P<any>\*+)|(?P<one>\?)|(?P<set>\[[^]/]+\])")


def is_address(path: str) -> bool:
    return "://" in path


def locate(path: str) -> tuple[fs.FileSystem, str]:
    """The file system of a path or an address, and the path within it.

    Raises:
      UserError: no file system that pyarrow knows.
    """
    if not is_address(path):
        return fs.LocalFileSystem(), path
    scheme, _, rest = path.partition("://")
    place, _, key = rest.partition("/")
    system, base = _open(f"{scheme}://{place}/")
    return system, f"{base.rstrip('/')}/{key}"


@functools.cache  # opening asks for a bucket's region
def _open(root: str) -> tuple[fs.FileSystem, str]:
    try:
        return fs.FileSystem.from_uri(root)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{root}: pyarrow cannot open it: {error}") from None


def kind_of(path: str) -> str | None:
    """ "file", "folder", or None if nothing is there.

    Raises:
      UserError: it cannot be seen.
    """
    system, inner = locate(path)
    try:
        kind = system.get_file_info(inner.rstrip("/") or "/").type
    except OSError as error:
        raise UserError(f"{path}: cannot be seen: {error}") from None
    return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(kind)


def walk(folder: str) -> Iterator[str]:
    """Yields the files below a folder, in no order, so that none waits for the last.

    A folder called `*.parquet` is a table, and is left out. At an address the names of
    one folder at a time are held; on a disk, none.
    """
    if is_address(folder):
        yield from _walk_address(folder.rstrip("/"))
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.endswith(".parquet"):
                    yield from walk(entry.path)
            elif entry.is_file():
                yield entry.path


def _walk_address(folder: str) -> Iterator[str]:
    system, inner = locate(folder)
    for info in system.get_file_info(fs.FileSelector(inner)):
        path = f"{folder}/{info.base_name}"
        if info.type == fs.FileType.File:
            yield path
        elif not info.base_name.endswith(".parquet"):
            yield from _walk_address(path)


def is_pattern(path: str) -> bool:
    """Whether a path has wildcards; a file that is called so is no pattern."""
    return bool(_WILD.search(path)) and kind_of(path) is None


def root_of(pattern: str) -> str:
    """The folder below which all that a pattern means lies.

    >>> root_of("s3://bucket/photos/2024-*/**/*.jpg")
    's3://bucket/photos'
    """
    before = pattern[: _WILD.search(pattern).start()]  # type: ignore[union-attr]
    return before.rpartition("/")[0] or "/"


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """What a shell's pattern means: `*` within a name, `**/` over folders.

    >>> bool(compile_pattern("/a/**/*.jpg").fullmatch("/a/b/c/d.jpg"))
    True
    >>> bool(compile_pattern("/a/*.jpg").fullmatch("/a/b/c.jpg"))
    False
    """
    written, end = [], 0
    for match in _PARTS.finditer(pattern):
        written.append(re.escape(pattern[end : match.start()]))
        letters = match["set"]
        negated = bool(letters) and letters[1] in "!^"
        written.append(
            {
                "folders": "(?:.*/)?",
                "any": "[^/]*",
                "one": "[^/]",
                "set": f"[^{(letters or '')[2:]}" if negated else letters,
            }[str(match.lastgroup)]
        )
        end = match.end()
    return re.compile("".join([*written, re.escape(pattern[end:])]), re.DOTALL)
