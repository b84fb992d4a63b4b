"""Networks with their weights: built from a configuration, or loaded from a folder.

network = load_network("runs/tiny")          # a training run: its best checkpoint
network = load_network("models/tiny")        # or what scripts/export.py wrote
network = load_network("tiny")               # or a model that ships
model = create_network(network.model, network.classes)
logits = model.apply(network.variables, images)
"""

import json
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from deepfer_jax.errors import UserError
from deepfer_jax.exported import (
    METADATA,
    PARAMETERS,
    ExportedModel,
    ModelError,
    read_tensors,
    shipped_models,
)
from deepfer_jax.models import create_model
from deepfer_jax.pretrained.merge import merge_variables
from deepfer_jax.runs.workdir import restore_run

_log = logging.getLogger(__name__)

# Fields of config.model that came later, as older models had them.
_ADDED = {"input_size": 0, "input_channels": 0, "pretrained": ""}


class Network(NamedTuple):
    """A trained network.

    model is `config.model`; variables are {params, batch_stats}; classes are the names
    of its logits in order; logits are divided by temperature (1 for a training run);
    metadata is all that its folder says of it.
    """

    model: ConfigDict
    variables: dict[str, Any]
    classes: tuple[str, ...]
    temperature: float
    metadata: dict[str, Any]


def create_network(model: ConfigDict, classes: Sequence[str], **options) -> nn.Module:
    """Returns the network that `config.model` describes, without weights.

    Raises:
      UserError: a name or an option that there is not.
    """
    if model.dtype not in ("float32", "bfloat16"):
        raise UserError(
            "config.model.dtype: expected 'float32' or 'bfloat16', found "
            f"{model.dtype!r}"
        )
    try:
        return create_model(
            model.name,
            num_classes=len(classes),
            dtype=jnp.dtype(model.dtype),
            dropout_rate=model.dropout_rate,
            **model.options,
            **options,
        )
    except ValueError as error:
        raise UserError(f"config.model: {error}") from None


def load_network(folder: str | os.PathLike) -> Network:
    """Opens a training run or an exported model, whichever the folder holds.

    The name of a model that ships is that model.

    Raises:
      UserError: neither, or a file is missing or damaged.
    """
    is_name = os.fspath(folder) in shipped_models()
    folder = folder if is_name else pathlib.Path(folder)
    if is_name or (folder / METADATA).exists():
        variables, metadata = load_model(folder)
        calibration = metadata.get("calibration") or {}
        return Network(
            ConfigDict(metadata["model"]),
            variables,
            tuple(metadata["classes"]),
            calibration.get("temperature", 1.0),
            metadata,
        )
    if not (folder / "config.json").exists():
        raise UserError(
            f"{folder} is neither a training run (config.json) nor an exported model "
            f"({METADATA})"
        )
    run = restore_run(folder)
    classes = tuple(run.metadata["classes"])
    model = ConfigDict(_ADDED | run.config.model.to_dict())
    return Network(model, run.variables, classes, 1.0, run.metadata)


def start_from(
    model: ConfigDict, classes: Sequence[str], variables: dict[str, Any]
) -> dict[str, Any]:
    """Takes the weights of `config.model.init_from` into new variables.

    The head is taken too where that network has the same classes in the same order.

    Args:
      model: `config.model`.
      classes: of the new network.
      variables: {params, batch_stats} of the new network.

    Returns:
      The same tree, with that network's values.

    Raises:
      UserError: it is another network, or normalises its input otherwise.
    """
    source = load_network(model.init_from)
    for name in ("input_size", "input_channels", "normalization", "mean", "std"):
        ours, theirs = json.dumps(model[name]), json.dumps(source.model[name])
        if ours != theirs:
            raise UserError(
                f"config.model.{name}: {model.init_from} was trained with {theirs}, "
                f"found {ours}"
            )
    keeps_head = source.classes == tuple(classes)
    new = () if keeps_head else ("params/head",)
    try:
        merged = merge_variables(variables, source.variables, new)
    except ValueError as error:
        raise UserError(
            f"config.model.init_from: {model.init_from} does not fit {model.name!r}: "
            f"{error}"
        ) from None
    head = "its head too" if keeps_head else "with a new head"
    _log.info("starting from %s, %s", model.init_from, head)
    return merged


def load_model(folder: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (variables, metadata) of an exported folder.

    Raises:
      UserError: a file is missing or damaged.
    """
    try:
        model = ExportedModel(folder)
        tensors = read_tensors(model.read(PARAMETERS))
        flat = {name: np.asarray(x, np.float32) for name, x in tensors.items()}
    except ModelError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: {PARAMETERS} is damaged: {error}") from None
    model.metadata["model"] = _ADDED | model.metadata["model"]
    return flax.traverse_util.unflatten_dict(flat, sep="/"), model.metadata
