"""A run's folder: its configuration, written once and compared when it is opened again.

workdir = open_workdir("runs/tiny", config)     # to train
run = restore_run("runs/tiny")                  # to evaluate or export
"""

import contextlib
import json
import logging
import os
import pathlib
import platform
from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from deepfer_jax import hosts
from deepfer_jax.errors import UserError
from deepfer_jax.runs.checkpoint import Checkpoints, checkpoint_steps

_log = logging.getLogger(__name__)

# Fields that may change between two starts of one run: none decides what is learned,
# but for num_epochs, with which a run is extended.
_FREE = (
    "dataset.data_dir",
    "evaluation.",
    "train.checkpoint_every_steps",
    "train.log_every_steps",
    "train.num_epochs",
    "train.profile_steps",
    "train.steps_per_call",
)


def open_workdir(workdir: str | os.PathLike, config: ConfigDict) -> pathlib.Path:
    """Makes the folder, or checks that it belongs to this configuration.

    Of the processes of one run, process 0 does; the others leave the folder alone.

    A folder without a checkpoint yet belongs to none: a start that failed (no data, a
    wrong field) can be mended and tried again.

    Raises:
      UserError: it holds a run of another configuration; the fields are named.
    """
    workdir = pathlib.Path(workdir).absolute()
    if not hosts.is_first():
        return workdir
    path = workdir / "config.json"
    text = json.dumps(config.to_dict(), indent=2, sort_keys=True)
    started = bool(checkpoint_steps(workdir / "checkpoints"))
    if started and not path.exists():
        raise UserError(
            f"{workdir} holds checkpoints but no config.json: name another --workdir"
        )
    if started:
        old, new = (flatten(x) for x in (_read(path), json.loads(text)))
        differ = [
            f"  {name}: {old.get(name, 'absent')!r} there, {new.get(name, 'absent')!r} "
            "now"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name) and not name.startswith(_FREE)
        ]
        if differ:
            raise UserError(
                f"{workdir} holds a run of another configuration:\n"
                + "\n".join(differ)
                + "\nname another --workdir, or delete it to start over"
            )
        epochs = old["train.num_epochs"], new["train.num_epochs"]
        if epochs[0] != epochs[1]:
            _log.info("train.num_epochs was %d, now %d: the schedule too", *epochs)
    workdir.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text + "\n")
    os.replace(temporary, path)
    return workdir


@contextlib.contextmanager
def locked(workdir: str | os.PathLike) -> Iterator[None]:
    """Keeps other processes from training in this folder, which is made.

    Where the system knows no such locks (Windows), nobody is kept out. A lock ends with
    its process, however that ends. Of the processes of one run, process 0 has it.

    Raises:
      UserError: another process has it; it is named.
    """
    if not hosts.is_first():
        yield
        return
    folder = pathlib.Path(workdir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{folder} is being trained by {file.read().strip() or 'another'}: "
                "wait until it ends, or name another --workdir"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


class Run(NamedTuple):
    """A trained run, without its data.

    variables are {params, batch_stats} of the best checkpoint, the moving average where
    there is one; metadata is that checkpoint's: step, epoch, accuracy, image_shape,
    classes.
    """

    config: ConfigDict
    variables: dict[str, Any]
    metadata: dict[str, Any]


def restore_run(workdir: str | os.PathLike) -> Run:
    """Opens the best checkpoint of a run, also while it is training.

    Raises:
      UserError: the folder holds no run, or no finished epoch.
    """
    config = read_config(workdir)
    checkpoints = Checkpoints(pathlib.Path(workdir) / "checkpoints")
    best = checkpoints.best()
    state = checkpoints.restore_arrays(best)
    variables = state["ema"] or {k: state[k] for k in ("params", "batch_stats")}
    return Run(config, variables, {"step": best} | checkpoints.metadata(best))


def read_config(workdir: str | os.PathLike) -> ConfigDict:
    """Returns the configuration of a run.

    Raises:
      UserError: the folder holds no run.
    """
    path = pathlib.Path(workdir) / "config.json"
    if not path.exists():
        raise UserError(f"{path} is missing: {workdir} is no folder of a training run")
    return ConfigDict(_read(path))


def _read(path: pathlib.Path) -> dict:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): name another --workdir"
        ) from None


def flatten(tree: dict, prefix: str = "") -> dict:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
