"""Networks as functions that stand alone, to be written for where jax is not.

    for name, network in create_networks(*load_model("tiny")).items():
        check(network, run, f"{name}.onnx")

What `onnx_export` and `tflite_export` have in common: the classifier (uint8 crops in,
calibrated probabilities [N, classes] and strengths of what spoils the faces
[N, causes] out), the detectors (float32 letter boxes [1, side, side, 3] in 0..255 in,
boxes [1, anchors, 16] and logits [1, anchors] out, as `models.blazeface` gives them)
and metadata.json, which says how they belong together. Letter box, anchors, suppression
and crop are `deepfer_jax.faces`; web/ has them in JavaScript.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import deepfer_jax
from deepfer_jax.errors import UserError
from deepfer_jax.export import FRAMINGS, make_judge_of_weights
from deepfer_jax.exported import METADATA
from deepfer_jax.faces.detector import load_detector
from deepfer_jax.inference import QUALITY_THRESHOLD
from deepfer_jax.models.blazeface import BLAZEFACES, Block, Double
from deepfer_jax.outputs import replacing
from deepfer_jax.runs.trained import load_model

CLASSIFIER = "classifier"
# Of an exported folder's metadata, what those need that run it.
_FIELDS = ("classes", "input", "num_parameters", "training_data")


class Network(NamedTuple):
    """A function of one array [N, *shape], with its weights inside.

    plain is the same in fewer operations, for a file; dtype is the array's; input and
    outputs are names; num is how many images one call takes, None for any number;
    tolerance is how far a file's answers may be from the function's: a probability, or
    a pixel of a detector's input and a logit.
    """

    function: Callable[[jax.Array], Sequence[jax.Array]]
    plain: Callable[[jax.Array], Sequence[jax.Array]]
    shape: tuple[int, ...]
    dtype: Any
    num: int | None
    input: str
    outputs: tuple[str, ...]
    tolerance: float


def export(
    model: str | os.PathLike,
    out: str | os.PathLike,
    suffix: str,
    convert: Callable[[Network], bytes],
    check: Callable[[Network, bytes, str], None],
) -> dict[str, Any]:
    """Writes an exported model and both detectors in another format.

    Args:
      model: the name of a model that ships, or an exported folder.
      out: folder to write.
      suffix: of the files.
      convert: makes a file's content.
      check: refuses content that answers something else, by the file's name.

    Returns:
      The metadata that is written beside them.
    """
    variables, metadata = load_model(model)
    files = {}
    for name, network in create_networks(variables, metadata).items():
        files[name] = convert(network)
        check(network, files[name], f"{name}{suffix}")
    return write(out, files, suffix, metadata)


def create_networks(
    variables: Mapping[str, Any], metadata: Mapping[str, Any]
) -> dict[str, Network]:
    """The classifier and both detectors, by the names of their files.

    Args:
      variables: of `load_model`.
      metadata: as variables.
    """
    return {CLASSIFIER: create_classifier(variables, metadata)} | {
        name: create_detector(name) for name in FRAMINGS
    }


def create_classifier(
    variables: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Network:
    """The classifier with preprocessing, temperature and quality inside."""
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    weights = [jnp.asarray(flat[name], jnp.float32) for name in metadata["weights"]]
    judge = functools.partial(make_judge_of_weights(dict(metadata)), weights)
    return Network(
        judge,
        judge,
        tuple(metadata["input"]["shape"]),
        jnp.uint8,
        None,
        "crops",
        ("probabilities", "strengths"),
        1e-4,
    )


def create_detector(name: str) -> Network:
    """A detector's network, with its pixels' scale inside.

    Args:
      name: "short" or "full".
    """
    detector = load_detector(name)
    side = detector.model.size

    def detect(images):
        images = images / 127.5 - 1.0
        return detector.model.network.apply(detector.variables, images)

    def detect_plainly(images):
        with nn.intercept_methods(_write_plainly):
            return detect(images)

    return Network(
        detect,
        detect_plainly,
        (side, side, 3),
        jnp.float32,
        1,
        "images",
        ("boxes", "logits"),
        1e-2,
    )


def check(
    network: Network, run: Callable[[np.ndarray], Sequence[np.ndarray]], name: str
) -> None:
    """Sees that a file answers as its network, on noise, darkness and a slope.

    Args:
      network: what the file was made of.
      run: a call of the file, by what runs it elsewhere: an array [1, *shape] in, what
        the network gives out.
      name: of the file.

    Raises:
      UserError: it answers something else.
    """
    noise = np.random.default_rng(0).uniform(0, 255, network.shape)
    slope = np.broadcast_to(
        np.linspace(0, 255, network.shape[1])[:, None], network.shape
    )
    for image in (noise, noise / 8, slope):
        images = image.astype(network.dtype)[None]
        with jax.default_device(jax.devices("cpu")[0]):  # others are less exact
            expected = jax.jit(network.function)(images)
        for output, ours, theirs in zip(
            network.outputs, expected, run(images), strict=True
        ):
            difference = np.abs(np.asarray(ours) - theirs).max()
            if not difference <= network.tolerance:
                raise UserError(
                    f"{name}: its {output} differ from the network's by "
                    f"{difference:.2g}, more than {network.tolerance:g}: nothing was "
                    "written; take the versions of requirements.lock"
                )


def write(
    out: str | os.PathLike,
    files: Mapping[str, bytes],
    suffix: str,
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes files of networks, and metadata.json beside them.

    Args:
      out: folder to write.
      files: by network.
      suffix: of their names.
      metadata: of `load_model`.

    Returns:
      The metadata that is written.
    """
    named = {f"{name}{suffix}": data for name, data in files.items()}
    described = _describe(metadata, suffix)
    described["sha256"] = {k: hashlib.sha256(x).hexdigest() for k, x in named.items()}
    named[METADATA] = (json.dumps(described, indent=2) + "\n").encode()
    with contextlib.ExitStack() as stack:  # all are written before any is replaced
        for name, data in named.items():
            path = stack.enter_context(replacing(pathlib.Path(out) / name))
            path.write_bytes(data)
    return described


def _describe(metadata: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    """What the files mean, of an exported folder's metadata."""
    calibration = metadata.get("calibration") or {}
    faces = metadata["faces"]
    detectors = {
        name: about
        | {
            "file": f"{name}{suffix}",
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


def _write_plainly(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
    """Blocks as few nodes, and resizing with channels first.

    Blocks' own form is what XLA computes fast on a CPU. Where channels come last, ONNX
    Runtime Web 1.30 resizes wrongly by WebGPU: boxes are off by 60 pixels.
    """
    module = context.module
    if context.method_name == "__call__" and isinstance(module, Block):
        return _write_block(module, *args)
    if context.method_name == "__call__" and isinstance(module, Double):
        x = jnp.moveaxis(args[0], 3, 1)
        *first, height, width = x.shape
        shape = (*first, 2 * height, 2 * width)
        x = jax.image.resize(x, shape, "linear", antialias=False)
        return jnp.moveaxis(x, 1, 3)
    return call(*args, **kwargs)


def _write_block(block: Block, x: jax.Array) -> jax.Array:
    params = block.variables["params"]
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
