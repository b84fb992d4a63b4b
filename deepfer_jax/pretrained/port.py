"""Published weights by source: `port("dlib", FILE, OUT)`, then config.model.pretrained.

metadata = port("torchvision", "resnet18.safetensors", "resnet18.port.safetensors")
variables = load_ported(config.model, variables, images)
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from deepfer_jax.errors import UserError
from deepfer_jax.models import create_model
from deepfer_jax.pretrained import blazeface, dlib, faceres, torchvision
from deepfer_jax.pretrained.merge import merge_variables
from deepfer_jax.pretrained.statistics import measure_statistics
from deepfer_jax.pretrained.tensors import (
    read_ported,
    read_tensors,
    sha256,
    write_ported,
)

SOURCES = ("torchvision", "dlib", "faceres", "blazeface")


def port(
    source: str,
    file: str | os.PathLike,
    out: str | os.PathLike,
    skip: Sequence[str] = (),
    licence: str | None = None,
) -> dict[str, str]:
    """Converts a file of published weights.

    Args:
      source: one of SOURCES.
      file: .safetensors, .pth or .pt of torchvision and timm; dlib's .dat; the .json
        of faceres or faceres-deep; BlazeFace's .tflite.
      out: the safetensors file to write.
      skip: regular expressions of tensors to leave out (torchvision).
      licence: of the weights; known but for torchvision's.

    Returns:
      What is stored beside the weights: source, architecture, licence, file, sha256.

    Raises:
      UserError: names the file and the tensor that does not fit.
    """
    if source == "dlib":
        architecture, variables = "dlib_resnet29", dlib.convert(file)
        licence = licence or dlib.LICENCE
    elif source == "faceres":
        architecture, variables = "mobilenet", faceres.convert(file)
        licence = licence or faceres.LICENCE
    elif source == "blazeface":
        name, variables = blazeface.convert(file)
        architecture = f"blazeface_{name}"
        licence = licence or blazeface.LICENCE
    elif source == "torchvision":
        try:
            converted = torchvision.convert(read_tensors(file), tuple(skip))
        except UserError as error:
            raise UserError(f"{file}: {error}") from None
        architecture, variables = converted
    else:
        raise UserError(f"source: expected one of {SOURCES}, found {source!r}")
    metadata = {
        "source": source,
        "architecture": architecture,
        "licence": licence or "not known",
        "file": pathlib.Path(file).name,
        "sha256": sha256(file),
    }
    if not pathlib.Path(out).absolute().parent.is_dir():
        raise UserError(f"{out}: there is no such folder")
    write_ported(out, variables, metadata)
    return metadata


def load_ported(
    model: ConfigDict, variables: dict[str, Any], images: jax.Array
) -> dict[str, Any]:
    """Takes ported weights into the variables of a new network, whose head stays new.

    A network that reads gray images gets the first convolution summed over its three
    channels: the same function of a gray image given as RGB, for dlib's always, for
    faceres' but for the edges, for torchvision's if all three channels are normalised
    alike.

    Args:
      model: `config.model`: pretrained is a file that `port` wrote, of the network of
        that name; mean and std normalise its images.
      variables: {params, batch_stats} of the new network.
      images: float32 [batch, height, width, channels], a few hundred inputs of that
        network, on which the statistics are measured that dlib's and faceres' batch
        normalisation has lost.

    Raises:
      UserError: another architecture, or a tensor that does not fit.
    """
    ported, metadata = read_ported(model.pretrained)
    if metadata["architecture"] != model.name:
        raise UserError(
            f"{model.pretrained} holds weights of {metadata['architecture']!r}, but "
            f"config.model.name is {model.name!r}"
        )
    is_gray = images.shape[-1] == 1
    source = metadata["source"]
    if is_gray and source == "torchvision":
        ported = torchvision.to_gray(ported)
    elif is_gray:
        to_gray = {"dlib": dlib.to_gray, "faceres": faceres.to_gray}[source]
        ported = to_gray(ported, model.mean[0], model.std[0])
    try:
        variables = merge_variables(variables, ported, new=("params/head",))
    except ValueError as error:
        raise UserError(f"{model.pretrained}: {error}") from None
    if source == "torchvision":
        return variables
    num_classes = variables["params"]["head"]["bias"].shape[0]
    network = create_model(model.name, num_classes, **model.options)
    return measure_statistics(network, variables, images)
