"""Files of named tensors: what others publish, and what scripts/port_weights.py writes.

tensors = read_tensors("resnet18.safetensors")     # {name: numpy array}
write_ported("resnet18_port.safetensors", variables, {"source": "torchvision"})
variables, metadata = read_ported("resnet18_port.safetensors")
"""

import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax
import numpy as np
import safetensors
import safetensors.numpy

from deepfer_jax.errors import UserError
from deepfer_jax.outputs import replacing


def read_tensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads a .safetensors file, or a .pth or .pt file through PyTorch.

    Nothing but tensors is ever unpickled.

    Returns:
      Arrays by name; bfloat16 and float16 ones as float32.

    Raises:
      UserError: no such file, not such a file, a cut-off one, or PyTorch is missing.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"{path} is missing")
    if path.suffix in (".pth", ".pt"):
        return _read_torch(path)
    if path.suffix != ".safetensors":
        raise UserError(
            f"{path}: expected a file .safetensors, .pth or .pt, found {path.suffix!r}"
        )
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a whole safetensors file: {error}") from None
    return {name: _as_float32(x) for name, x in tensors.items()}


def _as_float32(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: a file {path.suffix} is read by PyTorch, which is not installed: "
            'pip install "deepfer_jax[parity]", or get the .safetensors file'
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a bad file raises is not documented
        text = str(error).splitlines()[0][:200]
        raise UserError(
            f"{path}: not a whole PyTorch file of tensors: {text}"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(
        isinstance(x, torch.Tensor) for x in state.values()
    ):
        raise UserError(f"{path}: expected a state_dict, tensors by name")
    return {
        name: (x.float() if x.is_floating_point() else x).numpy()
        for name, x in state.items()
    }


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def write_ported(
    path: str | os.PathLike, variables: Mapping[str, Any], metadata: dict[str, str]
) -> None:
    """Writes variables by path, params/stem/conv/kernel, as one safetensors file.

    Args:
      path: the file; its folder must be there.
      variables: nested {params, batch_stats}.
      metadata: texts; what read_ported returns.
    """
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    with replacing(path) as temporary:
        temporary.write_bytes(pack_tensors(flat, metadata))


def pack_tensors(
    tensors: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None
) -> bytes:
    """The bytes of a safetensors file of these arrays, by name."""
    # safetensors silently scrambles arrays that are not contiguous.
    whole = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    return safetensors.numpy.save(whole, metadata)


def read_ported(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns (variables, metadata) of a file that write_ported wrote.

    Raises:
      UserError: it is missing, damaged, or another file.
    """
    flat = read_tensors(path)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata() or {}
    if "architecture" not in metadata:
        raise UserError(
            f"{path} was not written by scripts/port_weights.py: port it first"
        )
    return flax.traverse_util.unflatten_dict(flat, sep="/"), metadata
