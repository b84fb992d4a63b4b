"""A Ray cluster of several nodes on this machine, for tests and trials.

    with running_cluster(make_environment(), num_nodes=2) as cluster:
        subprocess.run([..., "bulk", "photos/", "--address", cluster.address])

It listens to ports that were free, and takes in who knows its token alone.
"""

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import psutil

_MAX_SECONDS = 90
_STARTED = "Ray runtime started"
_STORE_BYTES = 200_000_000


class Cluster(NamedTuple):
    """A Ray cluster of this machine: its address, and what started each node."""

    address: str
    nodes: list[subprocess.Popen]


@contextlib.contextmanager
def running_cluster(
    environment: Mapping[str, str], num_nodes: int, num_cpus: int = 1
) -> Iterator[Cluster]:
    """Gives a cluster that is up, and ends it after.

    Args:
      environment: of its processes; RAY_AUTH_TOKEN in it keeps others out.
      num_nodes: each with its own store, scheduler and workers.
      num_cpus: of each, as Ray counts them.

    Raises:
      TimeoutError: a node is not up within some time.
    """
    ports = find_ports(2)
    address = f"127.0.0.1:{ports[0]}"
    head = ["--head", f"--port={ports[0]}", f"--ray-client-server-port={ports[1]}"]
    nodes: list[subprocess.Popen] = []
    try:
        for number in range(num_nodes):
            which = [f"--address={address}"] if number else [*head]
            nodes.append(_start_node(environment, [*which, f"--num-cpus={num_cpus}"]))
        yield Cluster(address, nodes)
    finally:
        for node in reversed(nodes):
            kill_tree(node.pid)
            node.wait()


def find_ports(num: int) -> list[int]:
    """Ports of 127.0.0.1 that are free."""
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in range(num)]
        for one in free:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in free]


def _start_node(
    environment: Mapping[str, str], arguments: list[str]
) -> subprocess.Popen:
    common = ["--node-ip-address=127.0.0.1", "--include-dashboard=false", "--block"]
    common += [f"--object-store-memory={_STORE_BYTES}", "--disable-usage-stats"]
    with tempfile.TemporaryFile("w+") as said:
        node = subprocess.Popen(
            [pathlib.Path(sys.executable).with_name("ray"), "start"]
            + arguments
            + [x for x in common if "--head" in arguments or "dashboard" not in x],
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        end = time.monotonic() + _MAX_SECONDS
        while time.monotonic() < end and node.poll() is None:
            said.seek(0)
            if _STARTED in said.read():
                return node
            time.sleep(0.1)
        said.seek(0)
        kill_tree(node.pid)
        raise TimeoutError(f"a node of Ray does not start: {said.read()[-2000:]}")


def kill_tree(pid: int) -> None:
    """Kills a process and all that it started, at once."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def make_environment() -> dict[str, str]:
    """Of clusters and of what talks to them: a token, and this checkout.

    Ray's workers are not as nice as Ray makes them (by 15): on a machine that others
    use too they would hardly run, and be no measure of anything.
    """
    root = pathlib.Path(__file__).parents[2]
    return os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": uuid.uuid4().hex,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "PYTHONPATH": os.pathsep.join(map(str, (root, root / "scripts"))),
    }
