"""Trains a network: `python -m deepfer_jax.main --config configs/quickstart.py --workdir DIR`.

Any field of the configuration can be set on the command line:
`--config.train.num_epochs=3`. Started again with the same folder, it goes on where it
stopped.
"""  # noqa: E501

import logging
import sys

import jax
from absl import app, flags
from ml_collections import config_flags

from deepfer_jax import errors
from deepfer_jax.train import Stopped, train_and_evaluate

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Recipe, a file of configs/.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of this run: checkpoints, metrics, configuration."
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", stream=sys.stdout, force=True
    )
    logging.getLogger("deepfer_jax").setLevel(logging.INFO)
    devices = jax.local_devices()
    logging.getLogger("deepfer_jax").info(
        "jax %s on %d x %s", jax.__version__, len(devices), devices[0].device_kind
    )
    with errors.reported():
        try:
            train_and_evaluate(_CONFIG.value, _WORKDIR.value)
        except Stopped as stopped:
            print(f"{stopped}; everything is saved: run again to go on")
            sys.exit(128 + stopped.signum)


def parse_flags(argv: list[str]) -> list[str]:
    """As absl's own, but a recipe or field that there is not ends in one line."""
    try:
        rest = app.parse_flags_with_usage(argv)
        _ = _CONFIG.value.seed  # a file that was not found shows here
    except AttributeError as error:
        sys.exit(f"error: no such field of the configuration: {error}")
    except OSError as error:
        sys.exit(f"error: {error}")
    return rest


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
