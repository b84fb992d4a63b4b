"""The error of a user's mistake, and how the command line shows it.

A `UserError` message names the file, the field, what was expected, what was found and
what to do. Commands print it as one line, without a traceback, and exit with code 1:

    with errors.reported():
        main()
"""

import contextlib
import sys


class UserError(ValueError):
    """Something the user can mend: a wrong path, field, file or option."""


@contextlib.contextmanager
def reported():
    """Turns a `UserError` into `error: ...` on standard error and exit code 1."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
