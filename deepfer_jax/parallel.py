"""Devices: the only file that knows how many there are and how work is spread on them.

Steps are written for one device and its share of a batch; they talk to the others over
the axis AXIS. The state is an ordinary replicated array: nothing is stacked or
unstacked, and a checkpoint takes it as it is.

    train_step = pmap_train(run_steps)
    state, metrics = train_step(replicate(state), resident, inputs)

Where several processes train together (see `hosts`), AXIS goes over the devices of all,
those of a process side by side. A process makes of a batch the rows of its own devices
alone, `local_rows`; so inputs have a leading axis of `num_local_devices`.

jax.pmap is jit(shard_map) since jax 0.8. Over several processes it makes global arrays
of local ones at each call, and local ones of the results: 5 ms of Python for the 141
arrays of `tiny`'s state, 35 ms for the 859 of ResNet-50's. So what pmap lowered is
called as a program, and the state stays global from one call to the next.
"""

import ctypes
import functools
import itertools
import logging
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "batch"
_DAY_MS = 24 * 3600 * 1000
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_waits = itertools.count()  # the same in all processes, which wait in one order

_log = logging.getLogger(__name__)


def known_compiler_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those of XLA's options that the installed jax knows; it refuses others.

    One that it does not know is left out, with one line in the log.

    Args:
      options: for `jax.jit(..., compiler_options=...)`.
    """
    return {k: v for k, v in options.items() if _is_known(k, v)}


@functools.cache
def _is_known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        _log.warning(
            "jax %s does without the compiler option %s: %s",
            jax.__version__,
            name,
            str(error).splitlines()[0],
        )
        return False
    return True


def compiler_options() -> dict[str, Any]:
    """Options of XLA with which networks run and train fastest on this platform.

    On a CPU single convolutions go to XLA's own kernels, not to YNNPACK's: 1.5 times
    faster, 3.5 times in the gradient of the kernel (64 faces, 24x24x32, 3x3). Not every
    jax knows them.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def keep_memory() -> None:
    """Lets this process keep the memory that it frees, where the C library is glibc.

    For programs that train on a CPU: the temporary buffer of a step, 100 MB and more,
    would otherwise go back to the system after it, and the next step would fetch every
    page of it again.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt:
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(option, 2**31 - 1)


def wait_for_all(name: str) -> None:
    """Returns once every process is here, however late.

    Not by a reduction: before the first of a program gloo waits 30 s, and no longer,
    for one that takes longer to compile. One that is lost ends the others by jax's
    heartbeats.

    Args:
      name: for the message of an error.
    """
    if jax.process_count() > 1:
        client: Any = distributed.global_state.client  # it has no public name
        client.wait_at_barrier(f"{name} {next(_waits)}", _DAY_MS)


def num_devices() -> int:
    """Of all processes together."""
    return jax.device_count()


def num_local_devices() -> int:
    """Of this process."""
    return jax.local_device_count()


def local_device_numbers() -> np.ndarray:
    """int32 [local devices]: their places on AXIS."""
    first = jax.process_index() * num_local_devices()
    return first + np.arange(num_local_devices(), dtype=np.int32)


def local_rows(batch_size: int) -> slice:
    """The rows of a batch that this process's devices take.

    Args:
      batch_size: over all devices; a multiple of their number.
    """
    share = batch_size // jax.process_count()
    first = jax.process_index() * share
    return slice(first, first + share)


def replicate(tree: Any) -> Any:
    """Places a tree on every device, so that the first step compiles once.

    Where there are several processes, each gives the same.
    """
    return _place(tree, PartitionSpec())


def shard(tree: Any) -> Any:
    """Places arrays with a leading [local devices] axis, to each device its part."""
    return _place(tree, PartitionSpec(AXIS))


def _place(tree: Any, spec: PartitionSpec) -> Any:
    """Arrays of all processes' devices; those that are it already stay as they are."""
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    local = NamedSharding(mesh, spec)
    if jax.process_count() == 1:
        return jax.device_put(tree, local)

    def place(x):
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return x
        x = jax.device_put(x, local)
        return multihost_utils.host_local_array_to_global_array(x, _global_mesh(), spec)

    return jax.tree.map(place, tree)


@functools.cache
def _global_mesh() -> Mesh:
    """The devices of all processes as jax.pmap places them on its axis."""
    devices = sorted(jax.devices(), key=lambda device: device.process_index)
    return Mesh(np.array(devices), (AXIS,))


def pmap_train(fn: Callable) -> Callable:
    """Compiles `fn(state, resident, inputs) -> (state, metrics)` over all devices.

    state and resident are replicated, inputs have a leading [local devices] axis; both
    results must be equal on every device (reduce them over AXIS). The state is donated:
    do not use the old one again.
    """
    in_axes, out_axes = (None, None, 0), (None, None)
    mapped = jax.pmap(
        fn, axis_name=AXIS, in_axes=in_axes, out_axes=out_axes, donate_argnums=(0,)
    )
    return _with_compiler_options(mapped, in_axes)


def pmap_eval(fn: Callable) -> Callable:
    """Compiles `fn(variables, batch) -> (metrics, outputs)` over all devices.

    variables are replicated, batch has a leading [local devices] axis; metrics must be
    equal on every device, outputs keep the leading axis.
    """
    axes = (None, 0)
    mapped = jax.pmap(fn, axis_name=AXIS, in_axes=axes, out_axes=axes)
    return _with_compiler_options(mapped, axes)


def _with_compiler_options(
    mapped: Callable, in_axes: tuple[int | None, ...]
) -> Callable:
    """Compiles with `compiler_options`, which jax.pmap itself does not take."""
    options = known_compiler_options(compiler_options())
    if not options and jax.process_count() == 1:
        return mapped
    programs = {}

    def call(*args):
        leaves, tree = jax.tree.flatten(args)
        key = tree, tuple((x.shape, x.dtype) for x in leaves)
        if key not in programs:
            programs[key] = mapped.lower(*args).compile(compiler_options=options)
            wait_for_all("compiled")
        if jax.process_count() > 1:
            places = (replicate if axis is None else shard for axis in in_axes)
            args = tuple(place(x) for place, x in zip(places, args, strict=True))
        return programs[key](*args)

    call.lower = mapped.lower  # type: ignore[attr-defined]
    return call


def split_over_devices(tree: Any) -> Any:
    """[local batch, ...] -> [local devices, batch / devices, ...] for every leaf."""
    devices = num_local_devices()
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), tree)


def gather_rows(outputs: jax.Array) -> np.ndarray:
    """[devices, rows, ...] -> [devices * rows, ...], in every process."""
    if jax.process_count() == 1:
        fetched = jax.device_get(outputs)
    else:
        fetched = multihost_utils.process_allgather(outputs, tiled=True)
    return fetched.reshape(-1, *fetched.shape[2:])


def pad_batch(batch: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Fills a batch up to `size` examples with zeros and says which are real.

    Args:
      batch: arrays [n, ...] with n <= size.
      size: number of examples wanted.

    Returns:
      The arrays [size, ...], and `mask`: bool [size], true for the first n.
    """
    n = len(next(iter(batch.values())))
    padded = {
        name: np.concatenate([x, np.zeros((size - n, *x.shape[1:]), x.dtype)])
        for name, x in batch.items()
    }
    return padded | {"mask": np.arange(size) < n}


def round_up_to_devices(size: int) -> int:
    """Smallest multiple of the number of devices that is at least `size`."""
    return -(-size // num_devices()) * num_devices()
