"""Checkpoints of a run: the latest two and the best, each whole or refused.

    checkpoints = Checkpoints(workdir / "checkpoints", writable=True)
    step = checkpoints.newest()
    if step is not None:
        state = checkpoints.restore(step, like=state)
    checkpoints.save(state, {"accuracy": 0.64})

Orbax restores data with flipped bits without a word, so `<step>.sha256` stands beside
each checkpoint `<step>/`, written last and readable by `sha256sum -c`. A checkpoint
without it is a save that was cut off and is not counted; one that does not agree with
it is damaged: it is named, and the newest whole one is used. This is the only file that
imports Orbax; its CheckpointManager is not used, since it can neither leave out damaged
checkpoints nor be opened beside a run that is saving.
"""

import hashlib
import json
import logging
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from deepfer_jax.errors import UserError

_log = logging.getLogger(__name__)
_KEEP_LATEST = 2


class Checkpoints:
    """The checkpoints of one folder.

    Args:
      folder: made if it is not there (when writable).
      writable: a training run's own view, which clears away what is cut off or damaged.
        Any number of readers may look on at the same time.

    Raises:
      UserError: there are checkpoints, and all are damaged.
    """

    def __init__(self, folder: str | os.PathLike, writable: bool = False):
        self.folder = pathlib.Path(folder).absolute()
        if writable:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.steps = []
        damage = {}
        for manifest in self.folder.glob("*.sha256"):
            step = int(manifest.stem)
            lines = _find_damage(manifest)
            if lines:
                damage[step] = lines
            else:
                self.steps.append(step)
        self.steps.sort()
        self._report(damage)
        if writable:
            self._clear_away()

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

    def _clear_away(self) -> None:
        """Removes whatever belongs to no whole checkpoint."""
        whole = {str(step) for step in self.steps}
        for path in self.folder.iterdir():
            if path.name.removesuffix(".sha256") in whole:
                continue
            _log.warning("%s: not a whole checkpoint: removed", path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def save(self, state: Any, metadata: dict) -> None:
        """Returns when the checkpoint and its sums are on disk; keeps latest and best.

        Args:
          state: a pytree with the scalar `step`; a step saved before is left as it is.
          metadata: JSON values; `accuracy`, of the validation split, ranks it as best.
        """
        step = int(state.step)
        if step in self.steps:
            return
        target = self.folder / str(step)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(target / "state", state)
        (target / "metadata.json").write_text(json.dumps(metadata, indent=1))
        manifest = self._manifest(step)
        temporary = manifest.with_suffix(".tmp")
        temporary.write_text(
            "".join(f"{digest}  {name}\n" for name, digest in _sums(target).items())
        )
        os.replace(temporary, manifest)
        self.steps = sorted([*self.steps, step])
        best = self._best()
        for old in self.steps[:-_KEEP_LATEST]:
            if old != best:
                self._manifest(old).unlink()
                shutil.rmtree(self.folder / str(old))
                self.steps.remove(old)

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
        return max(accuracies, key=accuracies.get, default=None)

    def restore(self, step: int, like: Any) -> Any:
        """Returns the state of that step, structured and placed as `like`."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with ocp.StandardCheckpointer() as checkpointer:
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


def _sums(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of every file, by its path from the folder's parent."""
    return {
        str(path.relative_to(folder.parent)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _find_damage(manifest: pathlib.Path) -> list[str]:
    """Compares a checkpoint with its sums: what is wrong, a line a file."""
    lines = manifest.read_text(errors="replace").splitlines()
    expected = {name: digest for digest, _, name in (x.partition("  ") for x in lines)}
    found = _sums(manifest.with_suffix(""))
    missing = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    changed = [
        f"{name} is not as it was saved"
        for name in sorted(found)
        if expected.get(name) != found[name]
    ]
    return missing + changed or ([] if lines else [f"{manifest.name} is empty"])
