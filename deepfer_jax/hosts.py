"""Several processes, on one host or many, that train one network together.

    with hosts.joined("node1:1234", num_processes=2, process_id=0):
        hosts.agree("configuration", {"seed": 0})
        newest = hosts.from_first(checkpoints.newest() if hosts.is_first() else None)

Every process runs the same program on its own devices; `parallel` spreads a batch over
all of them. What people see and what lies on a disk is process 0's affair alone, so
that a shared disk and local ones serve alike. Where there is one process, everything
here returns what it was given, at no cost.

A process that is killed ends all: jax's heartbeats miss it within HEARTBEAT seconds,
on CPUs the next reduction within milliseconds.
"""

import contextlib
import importlib.util
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from deepfer_jax import lost, parallel
from deepfer_jax.errors import UserError

# Seconds without a heartbeat after which a process counts as lost. A process whose
# Python is busy beats on, in a thread of its own.
HEARTBEAT = 20
_START = 300  # seconds that processes wait for each other to start
_BLOCK = 4096  # messages are filled up to whole blocks: a program for each length
_GRACE = 2  # seconds that process 0, by whose end all end, leaves others for their line


@contextlib.contextmanager
def joined(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Iterator[None]:
    """Joins the other processes, before any other call of jax, and leaves them.

    Args:
      coordinator: HOST:PORT at which process 0 listens; "auto" for what jax itself
        detects; None: detected, if the environment says that there are several.
      num_processes: of the run.
      process_id: of this one, from 0.

    Raises:
      UserError: what is given does not suffice, or processes differ in what is
        installed.
    """
    if coordinator is None and (num_processes, process_id) != (None, None):
        raise UserError(
            "--num_processes and --process_id need --coordinator HOST:PORT, the host "
            "of process 0 and a free port there"
        )
    if coordinator is None and not _has_others():
        yield
        return
    _join(None if coordinator == "auto" else coordinator, num_processes, process_id)
    try:
        yield
    except SystemExit as stop:  # the line of a mistake is written
        if stop.code:
            _leave(stop.code)
    except Exception as error:
        if isinstance(error, jax.errors.JaxRuntimeError):
            _await_word_of_the_lost()
        traceback.print_exc()
        _leave(1)
    barrier("end")
    jax.distributed.shutdown()


def _has_others() -> bool:
    """Whether the environment is that of several processes, which jax can join."""
    env = os.environ
    sizes = (env.get("SLURM_STEP_NUM_TASKS"), env.get("OMPI_COMM_WORLD_SIZE"))
    if any(int(size or 1) > 1 for size in sizes):
        return True
    pods = (env.get("TPU_WORKER_HOSTNAMES", ""), env.get("TPU_PROCESS_ADDRESSES", ""))
    if any("," in names for names in pods):
        return True
    in_job = {"JOB_COMPLETION_INDEX", "KUBERNETES_SERVICE_HOST"} <= env.keys()
    return in_job and importlib.util.find_spec("kubernetes") is not None


def _join(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    lost.explain_losses()
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=_START,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(
            f"the processes of this run did not meet ({str(error).splitlines()[0]}): "
            "give each --coordinator HOST:PORT (of process 0), --num_processes N and "
            "--process_id I, from 0 to N - 1"
        ) from None
    devices = jax.local_devices()
    installed = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "device": devices[0].device_kind,
        "devices": len(devices),
    }
    agree("installation", installed)


def _leave(code: int | str) -> None:
    """Ends without waiting for the others, who may never come."""
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first():
        time.sleep(_GRACE)
    os._exit(code if isinstance(code, int) else 1)


def _await_word_of_the_lost() -> None:
    """If a reduction failed since a process was lost, jax names it and ends this one.

    On GPUs a reduction rather waits for the lost, and is ended likewise.
    """
    time.sleep(HEARTBEAT + 10)


def num_processes() -> int:
    return jax.process_count()


def is_first() -> bool:
    """Whether this is the process that writes files and speaks to people."""
    return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
    """Returns the values of all processes, by number. Each waits for all.

    Args:
      value: JSON.
    """
    if num_processes() == 1:
        return [value]
    barrier("gather")
    text = json.dumps(value).encode()
    longest = multihost_utils.process_allgather(np.int32(len(text))).max()
    filled = text.ljust(-(-int(longest) // _BLOCK) * _BLOCK)
    rows = multihost_utils.process_allgather(np.frombuffer(filled, np.uint8))
    return [json.loads(bytes(row)) for row in rows]


def from_first(value: Any) -> Any:
    """Returns process 0's value in every one; what others give is not looked at."""
    return value if num_processes() == 1 else gather(value if is_first() else None)[0]


def barrier(name: str) -> None:
    """Returns once every process is here."""
    parallel.wait_for_all(name)


def agree(subject: str, values: dict[str, Any]) -> None:
    """Refuses, in every process alike, one whose values are not process 0's.

    Args:
      subject: what they are, such as "configuration".
      values: JSON, by name.

    Raises:
      UserError: it names each process that differs, and in what.
    """
    rows = gather({"host": platform.node(), "values": values})
    first, lines = rows[0], []
    for number, row in enumerate(rows):
        ours, theirs = first["values"], row["values"]
        differ = [
            f"{name} is {theirs.get(name)!r}, there {ours.get(name)!r}"
            for name in sorted(ours.keys() | theirs.keys())
            if ours.get(name) != theirs.get(name)
        ]
        if differ:
            lines.append(
                f"process {number} ({row['host']}) has another {subject} than process "
                f"0 ({first['host']}): {'; '.join(differ)}"
            )
    if lines:
        raise UserError("\n".join(lines) + "\nstart every process with the same")


@contextlib.contextmanager
def first_alone_first() -> Iterator[None]:
    """Process 0 goes first: for what makes files that others find or make anew."""
    if not is_first():
        barrier("first")
    yield
    if is_first():
        barrier("first")


def broadcast(tree: Any) -> Any:
    """Returns process 0's arrays, bit for bit, as numpy arrays in every process.

    Args:
      tree: of arrays, in every process of the same shapes.
    """
    if num_processes() == 1:
        return tree
    barrier("broadcast")
    leaves, structure = jax.tree.flatten(jax.device_get(tree))
    arrays = [np.asarray(x) for x in leaves]
    # As bytes in one piece: one program, and sums of bytes with zeros are exact.
    pieces = [np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in arrays]
    data = np.asarray(multihost_utils.broadcast_one_to_all(np.concatenate(pieces)))
    ends = np.cumsum([x.nbytes for x in arrays])[:-1]
    parts = np.split(data, ends)
    whole = [
        part.copy().view(x.dtype).reshape(x.shape)
        for part, x in zip(parts, arrays, strict=True)
    ]
    return jax.tree.unflatten(structure, whole)
