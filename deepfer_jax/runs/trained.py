"""Networks with their weights: built from a configuration, or loaded from a folder.

trained = load_trained("runs/tiny")          # a training run: its best checkpoint
trained = load_trained("models/tiny")        # or what scripts/export.py wrote
trained = load_trained("tiny")               # or a model that ships
model = build_model(trained.model_config, trained.classes)
logits = model.apply(trained.variables, images)
"""

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
from deepfer_jax.runs.workdir import restore_run


class TrainedModel(NamedTuple):
    """A trained network.

    model_config is `config.model`; variables are {params, batch_stats}; classes are the
    names of its logits in order; logits are divided by temperature (1 for a training
    run); metadata is all that its folder says of it.
    """

    model_config: ConfigDict
    variables: dict[str, Any]
    classes: tuple[str, ...]
    temperature: float
    metadata: dict[str, Any]


def build_model(
    model_config: ConfigDict, classes: Sequence[str], **options
) -> nn.Module:
    """Returns the network that `config.model` describes, without weights.

    Raises:
      UserError: an unknown name or option.
    """
    if model_config.dtype not in ("float32", "bfloat16"):
        raise UserError(
            "config.model.dtype: expected 'float32' or 'bfloat16', found "
            f"{model_config.dtype!r}"
        )
    try:
        return create_model(
            model_config.name,
            num_classes=len(classes),
            dtype=jnp.dtype(model_config.dtype),
            dropout_rate=model_config.dropout_rate,
            **model_config.options,
            **options,
        )
    except ValueError as error:
        raise UserError(f"config.model: {error}") from None


def load_trained(folder: str | os.PathLike) -> TrainedModel:
    """Opens a training run or an exported model, whichever the folder holds.

    The name of a model that ships is that model.

    Raises:
      UserError: neither, or a file is missing or damaged.
    """
    is_name = os.fspath(folder) in shipped_models()
    path = pathlib.Path(folder)
    if is_name or (path / METADATA).exists():
        variables, metadata = load_model(folder)
        calibration = metadata.get("calibration") or {}
        return TrainedModel(
            ConfigDict(metadata["model"]),
            variables,
            tuple(metadata["classes"]),
            calibration.get("temperature", 1.0),
            metadata,
        )
    if not (path / "config.json").exists():
        raise UserError(
            f"{folder} is neither a training run (config.json) nor an exported model "
            f"({METADATA})"
        )
    run = restore_run(folder)
    classes = tuple(run.metadata["classes"])
    return TrainedModel(run.config.model, run.variables, classes, 1.0, run.metadata)


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
    return flax.traverse_util.unflatten_dict(flat, sep="/"), model.metadata
