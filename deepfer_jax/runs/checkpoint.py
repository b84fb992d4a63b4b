"""Checkpoints of a run: the latest two and the best, each whole or refused.

    checkpoints = Checkpoints(workdir / "checkpoints", writable=True)
    step = checkpoints.newest()
    if step is not None:
        state = checkpoints.restore(step, like=state)
    checkpoints.save(state, {"accuracy": 0.64})

Orbax restores data with flipped bits without a word, so `<step>.sha256` stands beside
each checkpoint `<step>/`, readable by `sha256sum -c`. One that does not agree with it
is damaged: it is named, and the newest whole one is used. A checkpoint is written as
`<step>.unfinished/`, which is what a save that was cut off leaves behind, and is given
its name last. Only these names are ever removed: what else lies in the folder is its
owner's. Where several processes train together, process 0 alone writes and reads them
(`SharedCheckpoints`). This is the only file that imports Orbax; its CheckpointManager
is not used, since it can neither leave out damaged checkpoints nor be opened beside a
run that is saving.
"""

import errno
import hashlib
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Collection
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from deepfer_jax import hosts
from deepfer_jax.errors import UserError

_log = logging.getLogger(__name__)
_KEEP_LATEST = 2
_UNFINISHED = ".unfinished"


class Checkpoints:
    """The checkpoints of one folder.

    Args:
      folder: made if it is not there (when writable).
      writable: a training run's own view, which clears away what is cut off or damaged.
        Any number of readers may look on at the same time.

    Raises:
      UserError: there are checkpoints, and all are damaged; or, when writable, one has
        no sums.
    """

    def __init__(self, folder: str | os.PathLike, writable: bool = False):
        self.folder = pathlib.Path(folder).absolute()
        if writable:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.steps = []
        damage = {}
        for step in checkpoint_steps(self.folder):
            lines = self._find_damage(step, writable)
            if lines:
                damage[step] = lines
            elif lines is not None:
                self.steps.append(step)
        self.steps.sort()
        self._report(damage)
        if writable:
            self._clear_away(damage)

    def _find_damage(self, step: int, writable: bool) -> list[str] | None:
        """What is wrong, a line a file; None for what was never a whole checkpoint."""
        manifest, folder = self._manifest(step), self.folder / str(step)
        cut_off = (self.folder / f"{step}{_UNFINISHED}").exists()
        if manifest.exists():
            return None if cut_off and not folder.exists() else _find_damage(manifest)
        if not (folder / "metadata.json").exists():
            return None
        if writable:
            raise UserError(
                f"{folder} has no sums ({manifest.name} is missing), so whether it is "
                "whole cannot be known: bring them back, or move that folder away"
            )
        return None

    def _report(self, damage: dict[int, list[str]]) -> None:
        report = [
            f"checkpoint {step}: {line}"
            for step, lines in sorted(damage.items())
            for line in lines
        ]
        if damage and not self.steps:
            raise UserError(
                "\n".join([f"{self.folder}: every checkpoint is damaged", *report])
                + "\ndelete this folder to start over, or name another workdir"
            )
        for line in report:
            _log.warning("%s: %s: not used", self.folder, line)

    def _clear_away(self, damaged: Collection[int]) -> None:
        """Removes what saves that were cut off have left, and what is damaged."""
        for step in set(checkpoint_steps(self.folder)) - set(self.steps):
            if step not in damaged:  # those are named already
                path = self.folder / str(step)
                _log.warning("%s: not a whole checkpoint: removed", path)
            self._remove(step)
        for path in self.folder.glob(f"*{_UNFINISHED}"):
            if path.name.removesuffix(_UNFINISHED).isdecimal():
                shutil.rmtree(path)

    def _remove(self, step: int) -> None:
        self._manifest(step).unlink(missing_ok=True)
        for name in (f"{step}", f"{step}{_UNFINISHED}"):
            if (self.folder / name).exists():
                shutil.rmtree(self.folder / name)

    def save(self, state: Any, metadata: dict) -> None:
        """Returns when the checkpoint and its sums are on disk; keeps latest and best.

        Args:
          state: a pytree with the scalar `step`; a step saved before is left as it is.
          metadata: JSON values; `accuracy`, of the validation split, ranks it as best.

        Raises:
          UserError: it cannot be written, as on a full disk; nothing of it is left.
        """
        step = int(state.step)
        if step in self.steps:
            return
        try:
            self._write(step, state, metadata)
        except Exception as error:  # Orbax has one of its own for a full disk
            self._remove(step)
            whole = f"of step {self.steps[-1]}" if self.steps else "not there yet"
            raise UserError(
                f"{self.folder}: the checkpoint of step {step} cannot be written "
                f"({_reason(error)}); the newest whole one is {whole}: make room and "
                "start again"
            ) from None
        self.steps = sorted([*self.steps, step])
        best = self._best()
        for old in self.steps[:-_KEEP_LATEST]:
            if old != best:
                self._remove(old)
                self.steps.remove(old)

    def _write(self, step: int, state: Any, metadata: dict) -> None:
        target = self.folder / f"{step}{_UNFINISHED}"
        with _checkpointer() as checkpointer:
            checkpointer.save(target / "state", state)
        (target / "metadata.json").write_text(json.dumps(metadata, indent=1))
        sums = _sums(target).items()
        lines = [f"{digest}  {step}/{name}\n" for name, digest in sums]
        self._manifest(step).write_text("".join(lines))
        target.rename(self.folder / str(step))

    def newest(self) -> int | None:
        """Step of the newest whole checkpoint; None where there is none."""
        return self.steps[-1] if self.steps else None

    def best(self) -> int:
        """Step of the whole checkpoint with the highest accuracy, the first of equals.

        Raises:
          UserError: there is none.
        """
        best = self._best()
        if best is None:
            raise UserError(
                f"{self.folder}: no checkpoint with a validation accuracy was found: "
                "finish an epoch of training first"
            )
        return best

    def _best(self) -> int | None:
        accuracies = {
            step: accuracy
            for step in self.steps
            if (accuracy := self.metadata(step).get("accuracy")) is not None
        }
        return max(accuracies, key=lambda step: accuracies[step], default=None)

    def restore(self, step: int, like: Any) -> Any:
        """Returns the state of that step, structured and placed as `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with _checkpointer() as checkpointer:
            return checkpointer.restore(self.folder / str(step) / "state", abstract)

    def restore_arrays(self, step: int) -> dict[str, Any]:
        """Returns the state of that step as a dict of numpy arrays, on any devices."""
        path = self.folder / str(step) / "state"
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.metadata(path).item_metadata.tree
        as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        restore_args = jax.tree.map(lambda _: as_numpy, tree)
        with ocp.PyTreeCheckpointer() as checkpointer:
            return checkpointer.restore(
                path, ocp.args.PyTreeRestore(restore_args=restore_args)
            )

    def metadata(self, step: int) -> dict:
        """Returns what `save` was given as metadata."""
        return json.loads((self.folder / str(step) / "metadata.json").read_text())

    def _manifest(self, step: int) -> pathlib.Path:
        return self.folder / f"{step}.sha256"


class SharedCheckpoints:
    """A training run's own checkpoints, for all of its processes.

    Process 0 alone reads and writes the folder: every process holds the same state, so
    that one copy does; what it restores it sends to the others. So it is all the same
    whether they see its disk, and none can read what another has not yet finished.
    (Orbax itself would have every process write its part, of global arrays, to a disk
    that all share.)

    Args:
      folder: made if it is not there.
    """

    def __init__(self, folder: str | os.PathLike):
        self._own = Checkpoints(folder, writable=True) if hosts.is_first() else None

    def newest(self) -> int | None:
        return hosts.from_first(self._own and self._own.newest())

    def best(self) -> int:
        return hosts.from_first(self._own and self._own.best())

    def metadata(self, step: int) -> dict:
        return hosts.from_first(self._own and self._own.metadata(step))

    def restore(self, step: int, like: Any) -> Any:
        """As of `Checkpoints`; returns numpy arrays where there are other processes."""
        if hosts.num_processes() > 1:
            like = jax.device_get(like)
        return hosts.broadcast(self._own.restore(step, like) if self._own else like)

    def save(self, state: Any, metadata: dict) -> None:
        """As of `Checkpoints`; returns in all processes once it is on disk."""
        if self._own:
            alone = hosts.num_processes() == 1
            self._own.save(state if alone else jax.device_get(state), metadata)
        hosts.barrier("saved")


def _checkpointer() -> ocp.StandardCheckpointer:
    """One of this process's own, which waits for no other."""
    if hosts.num_processes() == 1:
        return ocp.StandardCheckpointer()
    number = jax.process_index()
    return ocp.StandardCheckpointer(
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=number, active_processes={number}
        )
    )


def _reason(error: Exception) -> str:
    """What the system said, out of what Orbax says around it."""
    text = str(error)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO):
        if os.strerror(number) in text:
            return os.strerror(number)
    return (text.splitlines() or [type(error).__name__])[0]


def checkpoint_steps(folder: pathlib.Path) -> list[int]:
    """Steps of which a checkpoint, or a part of one, lies in the folder."""
    names = {path.name.removesuffix(".sha256") for path in folder.glob("*")}
    return sorted(int(name) for name in names if name.isdecimal())


def _sums(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file, by its path in the folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _find_damage(manifest: pathlib.Path) -> list[str]:
    """Compares a checkpoint with its sums: what is wrong, a line a file."""
    folder = manifest.with_suffix("")
    lines = manifest.read_text(errors="replace").splitlines()
    expected = {name: digest for digest, _, name in (x.partition("  ") for x in lines)}
    actual = {f"{folder.name}/{name}": x for name, x in _sums(folder).items()}
    missing = [f"{name} is missing" for name in sorted(expected.keys() - actual.keys())]
    changed = [
        f"{name} is not as it was saved"
        for name in sorted(actual)
        if expected.get(name) != actual[name]
    ]
    return missing + changed or ([] if lines else [f"{manifest.name} is empty"])
