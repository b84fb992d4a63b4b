"""One line instead of a stack trace where jax ends a process because another is gone.

    lost.explain_losses()      # before jax.distributed.initialize()

jax's coordination service ends every process in C++ once one of them stops answering:
what it then writes to file descriptor 2 is a page long, and no Python of that process
runs any more (its callback for this dies of std::bad_cast, jax 0.10.2). So that
descriptor becomes a pipe to a process of this file, which needs only the standard
library: it hands on what comes, but for what the service says, of which it makes a
line. Python's own sys.stderr stays where it was.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator

# How lines of C++'s log begin, and the files from which the service writes them.
_RECORD = re.compile(rb"[IWEF]\d{4} \d\d:\d\d:")
_SERVICE = re.compile(rb".*(coordination_service|preemption_)")
_FATAL = re.compile(rb"F\d{4} .*(client\.h|coordination|distributed)")
_AGAIN = "the same command goes on from the newest whole checkpoint"


def explain_losses() -> None:
    """Sends what C++ writes to standard error through `translate`."""
    shown = os.dup(2)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        stdout=shown,
        stderr=shown,
        start_new_session=True,  # so that it outlives what ends its parent
    )
    assert child.stdin is not None
    os.dup2(child.stdin.fileno(), 2)
    child.stdin.close()
    os.close(shown)


def translate(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the lines to show; all from the service's last word on become one."""
    fatal: list[bytes] = []
    hidden = False  # whether the record, of several lines, is one of the service's
    for line in lines:
        if _RECORD.match(line):
            hidden = bool(_SERVICE.match(line))
        if fatal or _FATAL.match(line):
            fatal.append(line)
        elif not hidden:
            yield line
    if fatal:
        text = b"".join(fatal).decode(errors="replace")
        yield f"error: {_name_lost(text)}\n".encode()


def _name_lost(text: str) -> str:
    numbers = sorted(set(map(int, re.findall(r"^(?:\S*/task:)?(\d+)$", text, re.M))))
    if "Failed to send RPC" in text:
        numbers = [0]  # whose service it is
    names = ", ".join(f"process {number}" for number in numbers) or "a process"
    return f"{names} of this run ended or answers no more: all end here; {_AGAIN}"


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for shown in translate(iter(sys.stdin.buffer.readline, b"")):
        sys.stdout.buffer.write(shown)
        sys.stdout.buffer.flush()
