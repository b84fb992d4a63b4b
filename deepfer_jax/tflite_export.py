"""Writes networks as TFLite, for phones and small computers.

    export_tflite("tiny", "models/tflite")

The folder holds classifier.tflite, for one face a call, a file for each detector,
short.tflite and full.tflite, and metadata.json (see `portable`). Inputs and outputs
have names by the signature "serving_default". LiteRT answers as jax does with each of
them, before any is written.

Made by jax2tf, which comes with jax, and TensorFlow's converter (the extra "train");
LiteRT is the extra "tflite".
"""

import os
from typing import Any

import numpy as np

from deepfer_jax import portable
from deepfer_jax.data.datasets import import_tensorflow
from deepfer_jax.errors import UserError


def export_tflite(model: str | os.PathLike, out: str | os.PathLike) -> dict[str, Any]:
    """Writes an exported model and both detectors as TFLite.

    Args:
      model: the name of a model that ships, or an exported folder.
      out: folder to write.

    Returns:
      The metadata that is written beside them.

    Raises:
      UserError: there is no such model, the extra is not installed, or a file answers
        something else than its network.
    """
    return portable.export(model, out, ".tflite", _convert, _check)


def _convert(network: portable.Network) -> bytes:
    try:
        tf = import_tensorflow()
    except ModuleNotFoundError:
        raise _missing("TensorFlow") from None
    from jax.experimental import jax2tf

    convert = jax2tf.convert(network.plain, with_gradient=False)
    holder = tf.Module()
    holder.call = tf.function(
        lambda images: dict(zip(network.outputs, convert(images), strict=True)),
        autograph=False,
    )
    images = tf.TensorSpec((1, *network.shape), network.dtype, network.input)
    function = holder.call.get_concrete_function(images)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], holder)
    return converter.convert()


def _check(network: portable.Network, data: bytes, name: str) -> None:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError:
        raise _missing("LiteRT") from None
    call = Interpreter(model_content=data).get_signature_runner()

    def run(images: np.ndarray) -> list[np.ndarray]:
        answers = call(**{network.input: images})
        return [answers[name] for name in network.outputs]

    portable.check(network, run, name)


def _missing(library: str) -> UserError:
    return UserError(
        f'{library} is not installed: pip install "deepfer_jax[train,tflite]"'
    )
