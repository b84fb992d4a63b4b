"""Writes networks as ONNX, for where jax is not: browsers, phones, other languages.

    export_onnx("tiny", "models/onnx")

The folder holds classifier.onnx (uint8 crops [batch, *input shape] in, calibrated
probabilities [batch, classes] and strengths of what spoils the faces [batch, causes]
out), a file for each detector, short.onnx and full.onnx (float32 letter boxes
[1, side, side, 3] in 0..255 in, boxes [1, anchors, 16] and logits [1, anchors] out, as
`models.blazeface` gives them) and metadata.json, which says how they belong together.
Letter box, anchors, suppression and crop are `deepfer_jax.faces`; web/ has them in
JavaScript.

Made by jax2onnx (the extra "onnx"); its layouts of arrays inside of a network are
dropped, for some are wrong, and ONNX Runtime finds them itself.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

import deepfer_jax
from deepfer_jax.errors import UserError
from deepfer_jax.export import FRAMINGS, make_judge_of_weights
from deepfer_jax.exported import METADATA
from deepfer_jax.faces.detector import load_detector
from deepfer_jax.inference import QUALITY_THRESHOLD
from deepfer_jax.models.blazeface import BLAZEFACES, Block
from deepfer_jax.outputs import replacing
from deepfer_jax.runs.trained import load_model

CLASSIFIER = "classifier.onnx"
# Of an exported folder's metadata, what those need that run it.
_FIELDS = ("classes", "input", "num_parameters", "training_data")


def detector_name(detector: str) -> str:
    """The file of a detector."""
    return f"{detector}.onnx"


def export_onnx(model: str | os.PathLike, out: str | os.PathLike) -> dict[str, Any]:
    """Writes an exported model and both detectors as ONNX.

    Args:
      model: the name of a model that ships, or an exported folder.
      out: folder to write.

    Returns:
      The metadata that is written beside them.

    Raises:
      UserError: there is no such model, or jax2onnx is not installed.
    """
    variables, metadata = load_model(model)
    files = {CLASSIFIER: convert_classifier(variables, metadata)}
    files |= {detector_name(name): convert_detector(name) for name in FRAMINGS}
    described = describe(metadata)
    described["sha256"] = {k: hashlib.sha256(x).hexdigest() for k, x in files.items()}
    files[METADATA] = (json.dumps(described, indent=2) + "\n").encode()
    with contextlib.ExitStack() as stack:  # all are written before any is replaced
        for name, data in files.items():
            path = stack.enter_context(replacing(pathlib.Path(out) / name))
            path.write_bytes(data)
    return described


def convert_classifier(variables: dict[str, Any], metadata: dict[str, Any]) -> bytes:
    """The classifier with preprocessing, temperature and quality inside.

    Args:
      variables: of `load_model`.
      metadata: as variables.

    Raises:
      UserError: jax2onnx is not installed.
    """
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    weights = [jnp.asarray(flat[name], jnp.float32) for name in metadata["weights"]]
    judge = functools.partial(make_judge_of_weights(metadata), weights)
    shape = ("batch", *metadata["input"]["shape"])
    return _convert(judge, shape, jnp.uint8, ["crops"], ["probabilities", "strengths"])


def convert_detector(name: str) -> bytes:
    """A detector's network, with its pixels' scale inside.

    Args:
      name: "short" or "full".

    Raises:
      UserError: jax2onnx is not installed, or there is no such detector.
    """
    detector = load_detector(name)
    side = detector.model.size

    def detect(images):
        with nn.intercept_methods(_write_blocks_plainly):
            images = images / 127.5 - 1.0
            return detector.model.network.apply(detector.variables, images)

    shape = (1, side, side, 3)
    return _convert(detect, shape, jnp.float32, ["images"], ["boxes", "logits"])


def describe(metadata: dict[str, Any]) -> dict[str, Any]:
    """What the files mean, of an exported folder's metadata."""
    calibration = metadata.get("calibration") or {}
    faces = metadata["faces"]
    detectors = {
        name: about
        | {
            "file": detector_name(name),
            "size": BLAZEFACES[name].size,
            "levels": BLAZEFACES[name].levels,
        }
        for name, about in faces["detectors"].items()
    }
    return {
        **{name: metadata[name] for name in _FIELDS},
        "threshold": calibration.get("threshold"),
        "quality_threshold": QUALITY_THRESHOLD,
        "causes": metadata["causes"],
        "faces": faces | {"detectors": detectors},
        "versions": {"deepfer_jax": deepfer_jax.__version__},
    }


def _write_blocks_plainly(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
    """Blocks as few nodes: their own form is what XLA computes fast on a CPU."""
    block = context.module
    if not isinstance(block, Block) or context.method_name != "__call__":
        return call(*args, **kwargs)
    (x,), params = args, block.variables["params"]
    y = _convolve(params["depthwise1"], x, block.stride, x.shape[-1])
    y = _convolve(params["conv1"], y)
    if block.bottleneck:
        y = nn.relu(y)
        y = _convolve(params["depthwise2"], y, groups=y.shape[-1])
        y = _convolve(params["conv2"], y)
    if block.stride == 2:
        x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
    if block.features > x.shape[-1]:
        x = jnp.pad(x, ((0, 0),) * 3 + ((0, block.features - x.shape[-1]),))
    return nn.relu(x + y)


def _convolve(
    params: dict[str, jax.Array], x: jax.Array, stride: int = 1, groups: int = 1
) -> Any:
    *size, _, features = params["kernel"].shape
    conv = nn.Conv(features, size, stride, feature_group_count=groups, parent=None)
    return conv.apply({"params": params}, x)


def _convert(
    function: Callable,
    shape: tuple[int | str, ...],
    dtype: Any,
    inputs: list[str],
    outputs: list[str],
) -> bytes:
    try:
        from jax2onnx import to_onnx
    except ModuleNotFoundError:
        raise UserError(
            'jax2onnx is not installed: pip install "deepfer_jax[train,onnx]"'
        ) from None
    # It tells of every layer, and adds arrays of different ranks.
    silent = contextlib.redirect_stdout(io.StringIO())
    with silent, jax.numpy_rank_promotion("allow"):
        model = to_onnx(
            function,
            [jax.ShapeDtypeStruct(shape, dtype)],
            input_names=inputs,
            output_names=outputs,
        )
    del model.graph.value_info[:]
    return model.SerializeToString()
