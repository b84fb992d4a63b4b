"""The demo's server in a process of its own, for tests and long trials.

    with running_server() as (address, pid):
        http.client.HTTPConnection(address)
    with running_server() as (address, pid):
        seconds = stop_server(pid)

It listens to 127.0.0.1, on a port that was free.
"""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

_MAX_SECONDS = 60


@contextlib.contextmanager
def running_server() -> Iterator[tuple[str, int]]:
    """Gives (host:port, process id) of a server that answers, and ends it after.

    Raises:
      TimeoutError: it does not answer within a minute.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "deepfer_jax.demo", "--port", port]
    process = subprocess.Popen(command)
    try:
        _wait_for(f"http://{address}/healthz")
        yield address, process.pid
    finally:
        process.terminate()
        try:
            process.wait(_MAX_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def stop_server(pid: int) -> float:
    """Ends a server with SIGTERM; the seconds until it and its processes were gone.

    Raises:
      TimeoutError: they are not within a minute.
    """
    import psutil

    server = psutil.Process(pid)
    processes = [server, *server.children(recursive=True)]
    start = time.monotonic()
    server.terminate()
    _, alive = psutil.wait_procs(processes, _MAX_SECONDS)
    if any(process.status() != psutil.STATUS_ZOMBIE for process in alive):
        raise TimeoutError(f"the server {pid} does not end")
    return time.monotonic() - start


def _wait_for(url: str) -> None:
    end = time.monotonic() + _MAX_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            if time.monotonic() > end:
                raise TimeoutError(f"{url} does not answer") from None
            time.sleep(0.1)
