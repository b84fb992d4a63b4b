"""Writes networks as ONNX, for browsers and other languages.

    export_onnx("tiny", "models/onnx")

The folder holds classifier.onnx, for any number of faces, a file for each detector,
short.onnx and full.onnx, and metadata.json (see `portable`). ONNX Runtime answers as
jax does with each of them, before any is written.

Made by jax2onnx (the extra "onnx"); its layouts of arrays inside of a network are
dropped, for some are wrong, and ONNX Runtime finds them itself.
"""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from typing import Any

import jax

from deepfer_jax import portable
from deepfer_jax.errors import UserError


def export_onnx(model: str | os.PathLike, out: str | os.PathLike) -> dict[str, Any]:
    """Writes an exported model and both detectors as ONNX.

    Args:
      model: the name of a model that ships, or an exported folder.
      out: folder to write.

    Returns:
      The metadata that is written beside them.

    Raises:
      UserError: there is no such model, the extra is not installed, or a file answers
        something else than its network.
    """
    return portable.export(model, out, ".onnx", _convert, _check)


def _convert(network: portable.Network) -> bytes:
    try:
        with _silence():
            from jax2onnx import to_onnx
    except ModuleNotFoundError:
        raise _missing("jax2onnx") from None
    shape = ("batch" if network.num is None else network.num, *network.shape)
    # It adds arrays of different ranks.
    with _silence(), jax.numpy_rank_promotion("allow"):
        model = to_onnx(
            network.plain,
            [jax.ShapeDtypeStruct(shape, network.dtype)],
            input_names=[network.input],
            output_names=list(network.outputs),
        )
    del model.graph.value_info[:]
    return model.SerializeToString()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """jax2onnx tells of every layer, and of operations of ours that it does not need.

    What it does wrong, `portable.check` finds.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _check(network: portable.Network, data: bytes, name: str) -> None:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise _missing("onnxruntime") from None
    session = onnxruntime.InferenceSession(data)
    outputs = list(network.outputs)
    portable.check(
        network, lambda images: session.run(outputs, {network.input: images}), name
    )


def _missing(library: str) -> UserError:
    return UserError(
        f'{library} is not installed: pip install "deepfer_jax[train,onnx]"'
    )
