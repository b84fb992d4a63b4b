"""Trains a network: `python -m deepfer_jax.main --config configs/quickstart.py --workdir DIR`.

Any field of the configuration can be set on the command line:
`--config.train.num_epochs=3`. Started again with the same folder, it goes on where it
stopped. On several hosts it is started on each, see docs/scale.md:
`--coordinator HOST:PORT --num_processes N --process_id I`, or nothing where jax finds
them itself.
"""  # noqa: E501

import ast
import logging
import re
import sys
from typing import Any

from deepfer_jax import errors

with errors.imports("train"):
    import jax
    from absl import app, flags
    from ml_collections import config_flags

    from deepfer_jax import hosts, parallel
    from deepfer_jax.training.train import Stopped, train_and_evaluate

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Recipe, a file of configs/.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of this run: checkpoints, metrics, configuration."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of process 0 where several train together; auto: what jax detects.",
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Of the whole run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Of this one, from 0.")

_OPTION = "--config.model.options."


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}")
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", stream=sys.stdout, force=True
    )
    _hush_orbax()
    parallel.keep_memory()
    together = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
    with errors.reported(), hosts.joined(*together), errors.reported():
        if hosts.is_first():
            logging.getLogger("deepfer_jax").setLevel(logging.INFO)
        _train()


def _train() -> None:
    devices, others = jax.local_devices(), hosts.num_processes() - 1
    logging.getLogger("deepfer_jax").info(
        "jax %s on %d x %s%s",
        jax.__version__,
        len(devices),
        devices[0].device_kind,
        f", and on as many of {others} other processes" if others else "",
    )
    try:
        train_and_evaluate(_CONFIG.value, _WORKDIR.value or "")
    except Stopped as stopped:
        print(f"{stopped}; everything is saved: run again to go on")
        sys.exit(128 + stopped.signum)


def _hush_orbax() -> None:
    """Where Orbax cannot write, its tasks say so by the hundred: its error will do."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    usual = sys.unraisablehook

    def hook(unraisable) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            usual(unraisable)

    sys.unraisablehook = hook


def parse_flags(argv: list[str]) -> list[str]:
    """As absl's own, but an unknown recipe or field ends in one line.

    Options of a network, which no recipe lists, can be set too:
    `--config.model.options.stochastic_depth=0.1`.
    """
    given = [a.partition("=")[::2] for a in argv if a.startswith(_OPTION)]
    argv = [a for a in argv if not a.startswith(_OPTION)]
    sys.argv[:] = argv  # where ml_collections looks for fields
    try:
        rest = app.parse_flags_with_usage(argv)
        config = _CONFIG.value
        _ = config.seed  # a file that was not found shows here
    except (AttributeError, KeyError) as error:
        sys.exit(_name_unknown_field(argv, error))
    except OSError as error:
        missing = re.findall("No such file or directory: '(.*)'", str(error))
        reason = f"{missing[0]} is missing" if missing else str(error)
        sys.exit(f"error: --config: {reason}: name a recipe of configs/")
    with config.model.options.unlocked():
        for name, text in given:
            config.model.options[name.removeprefix(_OPTION)] = _read_value(text)
    return rest


def _read_value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _name_unknown_field(argv: list[str], error: Exception) -> str:
    """The line for an unknown `--config.FIELD`, with the nearest known one."""
    said = str(error).replace("\\n", " ")
    unknown = re.findall(r"\w+", said)[0]
    near = re.search(r"Did you mean \W*(\w+)", said)
    given = [a.partition("=")[0] for a in argv]
    name = next((a for a in given if unknown in a.split(".")), unknown)
    hint = f": do you mean {near[1]}?" if near else ""
    return f"error: {name}: the configuration has no field {unknown!r}{hint}"


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
