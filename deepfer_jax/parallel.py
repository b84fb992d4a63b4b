"""Devices: the only file that knows how many there are and how work is spread on them.

Steps are written for one device and its share of a batch; they talk to the others over
the axis AXIS. The state is an ordinary replicated array: nothing is stacked or
unstacked, and a checkpoint takes it as it is.

    train_step = pmap_train(run_steps)
    state, metrics = train_step(replicate(state), resident, inputs)

One process with all its local devices; several hosts are not supported.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
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
    return jax.local_device_count()


def replicate(tree: Any) -> Any:
    """Places a tree on every device, so that the first step compiles once."""
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard(tree: Any) -> Any:
    """Places arrays with a leading [devices] axis, to each device its part."""
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


def pmap_train(fn: Callable) -> Callable:
    """Compiles `fn(state, resident, inputs) -> (state, metrics)` over all devices.

    state and resident are replicated, inputs have a leading [devices] axis, and both
    results must be equal on every device (reduce them over AXIS). The state is donated:
    do not use the old one again.
    """
    return _with_compiler_options(
        jax.pmap(
            fn,
            axis_name=AXIS,
            in_axes=(None, None, 0),
            out_axes=(None, None),
            donate_argnums=(0,),
        )
    )


def pmap_eval(fn: Callable) -> Callable:
    """Compiles `fn(variables, batch) -> (metrics, outputs)` over all devices.

    variables are replicated and batch has a leading [devices] axis; metrics must be
    equal on every device, outputs keep the leading axis.
    """
    return _with_compiler_options(
        jax.pmap(fn, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, 0))
    )


def _with_compiler_options(mapped: Callable) -> Callable:
    """Compiles with `compiler_options`, which jax.pmap itself does not take."""
    options = known_compiler_options(compiler_options())
    if not options:
        return mapped
    programs = {}

    def call(*args):
        leaves, tree = jax.tree.flatten(args)
        key = tree, tuple((x.shape, x.dtype) for x in leaves)
        if key not in programs:
            programs[key] = mapped.lower(*args).compile(compiler_options=options)
        return programs[key](*args)

    call.lower = mapped.lower  # type: ignore[attr-defined]
    return call


def split_over_devices(tree: Any) -> Any:
    """[batch, ...] -> [devices, batch / devices, ...] for every leaf."""
    devices = num_devices()
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), tree)


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
