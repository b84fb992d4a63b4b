"""What a training configuration must say, checked before anything is opened.

config = read_recipe("configs/fer2013_tiny.py")
check_config(config)
"""

import os
import pathlib
import runpy
import sys

from ml_collections import ConfigDict

from deepfer_jax.data.augment import check_options
from deepfer_jax.errors import UserError
from deepfer_jax.models.preprocess import NORMALIZATIONS
from deepfer_jax.training.losses import CLASS_WEIGHTS

# Splits that are reported, never chosen on.
_TEST_SPLITS = ("private_test", "test")


def read_recipe(path: str | os.PathLike) -> ConfigDict:
    """Returns the configuration of a file like those of configs/.

    Args:
      path: of the file; a colon and its argument may follow.

    Raises:
      UserError: there is no such file.
    """
    path, *argument = str(path).split(":", 1)
    path = pathlib.Path(path).absolute()
    if not path.is_file():
        raise UserError(f"--config: {path} is missing: name a recipe of configs/")
    sys.path.insert(0, str(path.parents[1]))
    try:
        return runpy.run_path(str(path))["get_config"](*argument)
    except (KeyError, SyntaxError, ImportError) as error:
        raise UserError(
            f"--config: {path} is no recipe, like those of configs/: "
            f"{type(error).__name__}: {error}"
        ) from None


def check_config(config: ConfigDict) -> None:
    """Refuses what no run should do.

    Raises:
      UserError: naming the field, what was expected and what was found.
    """
    dataset, train = config.dataset, config.train
    if dataset.validation_split in _TEST_SPLITS:
        raise UserError(
            f"config.dataset.validation_split={dataset.validation_split!r}: epochs are "
            "never chosen on a test split; use public_test or validation"
        )
    if dataset.validation_split == dataset.train_split:
        raise UserError(
            "config.dataset.validation_split must differ from train_split, found "
            f"{dataset.train_split!r} for both"
        )
    for name in (
        "batch_size",
        "num_epochs",
        "log_every_steps",
        "validate_every_epochs",
    ):
        if train[name] < 1:
            raise UserError(
                f"config.train.{name}: expected 1 or more, found {train[name]}"
            )
    if not 0 <= train.ema_decay < 1:
        raise UserError(
            f"config.train.ema_decay: expected 0 <= decay < 1, found {train.ema_decay}"
        )
    if config.seed < 0:
        raise UserError(f"config.seed: expected 0 or more, found {config.seed}")
    if config.loss.class_weights not in CLASS_WEIGHTS:
        raise UserError(
            f"config.loss.class_weights: expected one of {CLASS_WEIGHTS}, found "
            f"{config.loss.class_weights!r}"
        )
    if config.model.normalization not in NORMALIZATIONS:
        raise UserError(
            f"config.model.normalization: expected one of {NORMALIZATIONS}, found "
            f"{config.model.normalization!r}"
        )
    distill = config.distill
    if not 0 <= distill.weight <= 1:
        raise UserError(
            f"config.distill.weight: expected 0 to 1, found {distill.weight!r}"
        )
    if not distill.temperature > 0:
        raise UserError(
            "config.distill.temperature: expected more than 0, found "
            f"{distill.temperature!r}"
        )
    if distill.fixed and (distill.temperature, dataset.pipeline) != (1.0, "resident"):
        raise UserError(
            "config.distill.fixed: expected temperature 1 and dataset.pipeline "
            f"'resident', found {distill.temperature!r} and {dataset.pipeline!r}"
        )
    check_options(config.augment)
    if len(train.profile_steps) not in (0, 2):
        raise UserError(
            "config.train.profile_steps: expected () or (first, last), found "
            f"{train.profile_steps}"
        )
