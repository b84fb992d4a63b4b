"""Files that commands write: never over what they read, and whole or not at all.

outputs.check([args.out, args.csv], inputs=[args.input])
with outputs.replacing(args.out) as path:
    path.write_text(page)
"""

import contextlib
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator

from deepfer_jax.errors import UserError

_numbers = itertools.count()


def check(
    outputs: Iterable[str | os.PathLike], inputs: Iterable[str | os.PathLike] = ()
) -> None:
    """Refuses outputs that would destroy something.

    Links are followed, so that other names of one file are that file.

    Raises:
      UserError: an output is one of the inputs, or two outputs are one file.
    """
    read = {os.path.realpath(path) for path in inputs}
    written = set()
    for path in outputs:
        real = os.path.realpath(path)
        if real in read:
            raise UserError(f"{path} is read and would be overwritten: name another")
        if real in written and os.path.basename(real) != os.devnull:
            raise UserError(f"{path} would be written twice: name two files")
        written.add(real)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a path to write to, which becomes `path` once all is written.

    A temporary file beside it, of the same suffix; a pipe or a device is written to as
    it stands. The folder is made if it is missing.

    Raises:
      UserError: it cannot be written.
    """
    path = pathlib.Path(path)
    temporary = path
    try:
        if not path.exists() or path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            name = f".{os.getpid()}-{next(_numbers)}.tmp{path.suffix}"
            temporary = path.with_name(name)
        yield temporary
        if temporary != path:
            os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written: {reason}") from None
    finally:
        if temporary != path:
            temporary.unlink(missing_ok=True)
