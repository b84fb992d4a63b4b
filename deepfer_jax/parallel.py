"""Devices: the only file that knows how many there are and how work is spread on them.

Steps are written for one device and its share of a batch; they talk to the others over
the axis AXIS. The state is an ordinary replicated array: nothing is stacked or
unstacked, and a checkpoint takes it as it is.

    train_step = pmap_train(run_steps)
    state, metrics = train_step(replicate(state), resident, inputs)

Where several processes train together (see `hosts`), AXIS goes over the devices of all,
those of a process side by side. A process holds the state for its own devices, and of a
batch the rows of its own devices alone, `local_rows`; so inputs have a leading axis of
`num_local_devices`.

jax.pmap is jit(shard_map) since jax 0.8. What it adds over several processes is to make
global arrays of local ones at each call and local ones of the results: MEASURED.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "batch"

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
    """Places a tree on every local device, so that the first step compiles once."""
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard(tree: Any) -> Any:
    """Places arrays with a leading [local devices] axis, to each device its part."""
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


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
    return _with_compiler_options(mapped, in_axes, out_axes)


def pmap_eval(fn: Callable) -> Callable:
    """Compiles `fn(variables, batch) -> (metrics, outputs)` over all devices.

    variables are replicated, batch has a leading [local devices] axis; metrics must be
    equal on every device, outputs keep the leading axis.
    """
    axes = (None, 0)
    mapped = jax.pmap(fn, axis_name=AXIS, in_axes=axes, out_axes=axes)
    return _with_compiler_options(mapped, axes, axes)


def _with_compiler_options(
    mapped: Callable, in_axes: tuple[int | None, ...], out_axes: tuple[int | None, ...]
) -> Callable:
    """Compiles with `compiler_options`, which jax.pmap itself does not take.

    A program that was lowered by hand takes and gives global arrays where there are
    several processes; the axes say which are replicated.
    """
    options = known_compiler_options(compiler_options())
    if not options:
        return mapped
    programs = {}

    def call(*args):
        leaves, tree = jax.tree.flatten(args)
        key = tree, tuple((x.shape, x.dtype) for x in leaves)
        if key not in programs:
            programs[key] = mapped.lower(*args).compile(compiler_options=options)
        if jax.process_count() == 1:
            return programs[key](*args)
        results = programs[key](*_to_global(args, in_axes))
        return _to_local(results, out_axes)

    call.lower = mapped.lower  # type: ignore[attr-defined]
    return call


def _to_global(trees: Any, axes: tuple[int | None, ...]) -> tuple:
    """Views local arrays as parts of global ones, as jax.pmap does."""
    convert = multihost_utils.host_local_array_to_global_array
    return _convert(convert, trees, axes)


def _to_local(trees: Any, axes: tuple[int | None, ...]) -> tuple:
    return _convert(multihost_utils.global_array_to_host_local_array, trees, axes)


def _convert(convert: Callable, trees: Any, axes: tuple[int | None, ...]) -> tuple:
    mesh = _global_mesh()
    specs = (PartitionSpec() if axis is None else PartitionSpec(AXIS) for axis in axes)
    return tuple(convert(x, mesh, spec) for x, spec in zip(trees, specs, strict=True))


@functools.cache
def _global_mesh() -> Mesh:
    """The devices of all processes as jax.pmap places them on its axis."""
    devices = sorted(jax.devices(), key=lambda device: device.process_index)
    return Mesh(np.array(devices), (AXIS,))


def split_over_devices(tree: Any) -> Any:
    """[local batch, ...] -> [local devices, batch / devices, ...] for every leaf."""
    devices = num_local_devices()
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), tree)


def gather_rows(outputs: jax.Array) -> np.ndarray:
    """[local devices, rows, ...] of each process -> [batch, ...] in every process."""
    if jax.process_count() == 1:
        fetched = jax.device_get(outputs)
    else:
        local = np.asarray(jax.device_get(outputs))
        fetched = multihost_utils.process_allgather(local, tiled=True)
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
