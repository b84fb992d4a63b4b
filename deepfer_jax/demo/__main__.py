"""Serves the demo: `python -m deepfer_jax.demo`, then open http://127.0.0.1:8000."""

import argparse
import contextlib
import ctypes
import ipaddress
import logging
import os
import socket
import sys

from deepfer_jax.exported import ModelError
from deepfer_jax.faces.analyzer import DETECTORS
from deepfer_jax.inference import DEFAULT_MODEL

_NUM_FILES = 8192  # of sockets that are open at a moment, those to be refused included


def main(argv: list[str] | None = None, prog: str = "deepfer demo") -> None:
    """Serves until it is interrupted."""
    args = _parse(argv, prog)
    try:
        import uvicorn

        from deepfer_jax.demo import connections
        from deepfer_jax.demo.reading import Readers
        from deepfer_jax.demo.server import LOCAL, create_app
    except ImportError as error:
        sys.exit(f'error: {error}: pip install "deepfer_jax[demo]"')
    from deepfer_jax.faces.analyzer import Analyzer

    _give_memory_back()
    # Between threads, five milliseconds otherwise: a frame passes from one to another
    # ten times, and would wait that long each time while the event loop is busy.
    sys.setswitchinterval(0.0005)
    # Before anything that takes long: a port in use is known at once.
    listener = _listen(args.host, args.port)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("deepfer_jax").setLevel(logging.INFO)
    try:
        analyzer = Analyzer(args.model, args.detector, not args.no_cache)
    except ModelError as error:
        sys.exit(f"error: {error}")
    readers = Readers(analyzer)
    # A camera's first frame need not wait for the compiler.
    readers.warm_up(480, 640)
    hosts = {*LOCAL, args.host, *args.allowed_hosts}
    app = create_app(analyzer, hosts, args.token, readers)
    print(f"open {_address(listener, args.token)} (Ctrl-C to stop)", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, **connections.options()))
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    sys.stdout.flush()
    # Not sys.exit: a compilation can be neither interrupted nor waited for.
    os._exit(0)


def _parse(argv: list[str] | None, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog, description="Serves the page and the HTTP API."
    )
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="a name that ships, or a folder")
    add("--detector", default="auto", choices=DETECTORS, help="short: fast, near faces")
    add("--host", default="127.0.0.1", help="address to listen to")
    add("--port", type=int, default=8000, help="0: any that is free")
    add(
        "--allowed_hosts",
        nargs="+",
        default=(),
        metavar="NAME",
        help="names that browsers may call this machine by, beside localhost",
    )
    add("--no-cache", action="store_true", help="keep nothing that is compiled")
    add("--token", help="what clients must know")
    add("--no_token", action="store_true", help="let anybody in who can connect")
    args = parser.parse_args(argv)
    if not 0 <= args.port <= 65535:
        parser.error(f"--port: expected 0 to 65535, found {args.port}")
    if args.token is not None and not (args.token.isalnum() and args.token.isascii()):
        parser.error("--token: expected letters and digits")
    if not _is_loopback(args.host):
        if args.token is None and not args.no_token:
            parser.error(
                f"--host {args.host}: others on the network could use this server: "
                "give it a --token, or say --no_token"
            )
        whom = "whoever knows the token" if args.token else "anybody"
        print(
            f"warning: listening to {args.host}, unencrypted: {whom} on the network "
            "can use this server",
            file=sys.stderr,
        )
    return args


def _give_memory_back() -> None:
    """Has large blocks go back to the system when they are freed, where glibc is.

    Else what one thread has freed does not serve another, and bodies and pixels of
    megabytes leave holes: a third more memory after a minute of uploads.
    """
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 2**20)
        mallopt(trim_threshold, 2**26)
        mallopt(arena_max, 2)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; ends the program if there can be none."""
    with contextlib.suppress(ImportError):  # Windows
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _NUM_FILES if most == resource.RLIM_INFINITY else min(most, _NUM_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        sys.exit(f"error: --host {host} --port {port}: {error.strerror or error}")


def _address(listener: socket.socket, token: str | None) -> str:
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}" + (f"/#token={token}" if token else "")


if __name__ == "__main__":
    main()
