"""What a run starts from: weights of another network, and data that are the same.

variables = start_weights(config, state, train_data)
"""

import json
import logging
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from deepfer_jax.data.pipeline import Resident, TfData
from deepfer_jax.errors import UserError
from deepfer_jax.models.preprocess import make_preprocess, to_unit
from deepfer_jax.pretrained.merge import merge_variables
from deepfer_jax.pretrained.port import load_ported
from deepfer_jax.runs.trained import load_trained
from deepfer_jax.training.state import TrainState

_log = logging.getLogger(__name__)
# Faces on which the statistics of folded batch normalisation are measured again.
_NUM_MEASURED = 256


def check_same_data(
    metadata: dict[str, Any], data: dict[str, Resident | TfData], dataset: ConfigDict
) -> None:
    """Compares the data with what a checkpoint was trained on.

    Args:
      metadata: of the checkpoint.
      data: pipelines, by train and validation.
      dataset: `config.dataset`.

    Raises:
      UserError: the faces or labels of a split have changed since.
    """
    for name, there in metadata.get("data", {}).items():
        now = data[name].fingerprint
        if there != now:
            split = dataset[f"{name}_split"]
            raise UserError(
                f"{dataset.name} in {dataset.data_dir}, split {split}, is not what "
                f"this run was trained on: its fingerprint was {there}, now {now}. "
                "Bring the data back, or name another --workdir"
            )


def start_weights(
    config: ConfigDict, state: TrainState, train_data: Resident | TfData
) -> dict[str, Any]:
    """Returns {params, batch_stats} to start from, of a new state or of other weights.

    Those of `config.model.init_from` or `pretrained`, where there are any; the head
    only if its classes are the same.

    Raises:
      UserError: both are given, or the weights do not fit the network.
    """
    model_config = config.model
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    if model_config.init_from and model_config.pretrained:
        raise UserError("config.model: give init_from or pretrained, not both")
    if model_config.init_from:
        return start_from(model_config, train_data.classes, variables)
    if model_config.pretrained:
        batch = next(train_data.in_order(_NUM_MEASURED))
        images = make_preprocess(model_config)(to_unit(batch["image"]))
        return load_ported(model_config, variables, images)
    return variables


def start_from(
    model_config: ConfigDict, classes: Sequence[str], variables: dict[str, Any]
) -> dict[str, Any]:
    """Takes the weights of `config.model.init_from` into new variables.

    The head is taken too where that network has the same classes in the same order.

    Args:
      model_config: `config.model`.
      classes: of the new network.
      variables: {params, batch_stats} of the new network.

    Returns:
      The same tree, with that network's values.

    Raises:
      UserError: it is another network, or normalises its input otherwise.
    """
    source = load_trained(model_config.init_from)
    for name in ("input_size", "input_channels", "normalization", "mean", "std"):
        ours = json.dumps(model_config[name])
        theirs = json.dumps(source.model_config[name])
        if ours != theirs:
            raise UserError(
                f"config.model.{name}: {model_config.init_from} was trained with "
                f"{theirs}, found {ours}"
            )
    keeps_head = source.classes == tuple(classes)
    new = ("quality",) if keeps_head else ("quality", "params/head")
    try:
        merged = merge_variables(variables, source.variables, new)
    except ValueError as error:
        raise UserError(
            f"config.model.init_from: {model_config.init_from} does not fit "
            f"{model_config.name!r}: {error}"
        ) from None
    head = "its head too" if keeps_head else "with a new head"
    _log.info("starting from %s, %s", model_config.init_from, head)
    return merged
