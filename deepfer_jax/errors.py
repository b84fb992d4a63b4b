"""The error of a user's mistake, and how the command line shows it.

A `UserError` message names the file, the field, what was expected, what was found and
what to do. Commands print it as one line, without a traceback, and exit with code 1:

    with errors.imports("train"):
        from deepfer_jax.evaluation.evaluate import evaluate_split

    with errors.reported():
        main()
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator


class UserError(ValueError):
    """Something the user can mend: a wrong path, field, file or option."""


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Ends a command in one line where something stops it, and with a fitting code.

    `error: ...` on standard error and 1 for a `UserError` and for what the system
    refuses, such as a full disk; `interrupted` and 130 for Ctrl-C; 141 without a word
    where whoever read the output has left (`| head`).
    """
    try:
        with _interrupted_again():
            yield
        sys.stdout.flush()
    except UserError as error:
        _end(f"error: {error}", 1)
    except KeyboardInterrupt:
        _end("interrupted", 130)
    except BrokenPipeError:
        _end(None, 141)
    except OSError as error:
        where = error.filename or "standard output"
        _end(f"error: {where}: {error.strerror or error}", 1)


@contextlib.contextmanager
def _interrupted_again() -> Iterator[None]:
    """Ctrl-C that comes while garbage is collected is lost there: it comes once more.

    jax has a callback of the collector, in which Python can raise nothing.
    """
    usual = sys.unraisablehook

    def hook(unraisable) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            usual(unraisable)
            return
        again = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual


def _end(line: str | None, code: int) -> None:
    if line:
        print(line, file=sys.stderr)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.exit(code)
    # What cannot be written is not tried again when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


@contextlib.contextmanager
def _interrupted_at_once() -> Iterator[None]:
    """Ctrl-C ends the process itself: libraries swallow its exception as they load."""

    def leave(*_) -> None:
        os.write(2, b"interrupted\n")
        os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


@contextlib.contextmanager
def imports(extra: str | None = None) -> Iterator[None]:
    """Around a command's imports, which take a second and may lack something.

    Where an extra's packages are missing it says how to install them; `--help` then
    shows what the command's own text says of it. Ctrl-C ends as in `reported`.

    Args:
      extra: of pyproject.toml, such as "train"; None for what is always installed.
    """
    try:
        with _interrupted_at_once():
            yield
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").startswith("deepfer_jax"):
            raise
        line = (
            f"{error.name} is not installed: in a clone of this project\n"
            f'  pip install -e ".[{extra}]"\n'
            f'or beside an installed one  pip install "deepfer_jax[{extra}]"'
        )
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(f"{sys.modules['__main__'].__doc__}\n{line}")
            sys.exit(0)
        _end(f"error: {line}", 1)
