"""What the folder of a trained network says of it, read for a report.

    findings = read_findings("runs/tiny")
    findings.result["accuracy"], findings.series().keys()

The folder is a training run (config.json, metrics.jsonl, eval/, perhaps
calibration.json) or an exported model (metadata.json, eval/).
"""

import json
import os
import pathlib
import shlex
from typing import Any, NamedTuple

import numpy as np

from deepfer_jax.data import datasets
from deepfer_jax.errors import UserError
from deepfer_jax.evaluation.calibration import scale
from deepfer_jax.exported import METADATA
from deepfer_jax.runs.writers import read_metrics


class Findings(NamedTuple):
    """What is known of a network; a part that is not there is None or empty.

    evaluations: JSON by the name of its file; chosen: the name of the one to show in
    detail; arrays: its probabilities, label and id; corruptions (on the same split) and
    calibration: JSON; metrics: lines of metrics.jsonl; origin: network and data in
    words.
    """

    folder: pathlib.Path
    evaluations: dict[str, dict[str, Any]]
    chosen: str
    arrays: dict[str, np.ndarray] | None
    corruptions: dict[str, Any] | None
    calibration: dict[str, Any] | None
    metrics: list[dict[str, Any]]
    origin: str

    @property
    def result(self) -> dict[str, Any]:
        """The evaluation that is shown in detail."""
        return self.evaluations[self.chosen]

    def series(self) -> dict[str, np.ndarray]:
        """Probabilities of the chosen evaluation, float [n, classes], by their name.

        "as trained", "calibrated", or both, for faces that were seen in one view:
        the mean of several views cannot be scaled afterwards.
        """
        if self.arrays is None:
            return {}
        given, used = self.arrays["probabilities"], self.result["temperature"]
        if self.calibration is None or self.result["tta"] != "none":
            return {"as trained" if used == 1 else "calibrated": given}
        return {
            "as trained": scale(given, 1 / used),
            "calibrated": scale(given, self.calibration["temperature"] / used),
        }

    def command(self, *more: str) -> str:
        """The command that makes the chosen evaluation, or more on its split."""
        dataset = self.result["dataset"].rpartition("/")[0]
        if self.result["tta"] != "none":
            more = ("--tta", self.result["tta"], *more)
        return _command(self.folder, dataset, self.result["split"], *more)


def _command(folder: pathlib.Path, dataset: str, split: str, *more: str) -> str:
    where = ("--workdir", shlex.quote(str(folder)), "--dataset", dataset)
    return " ".join(("python scripts/evaluate.py", *where, "--split", split, *more))


def read_findings(folder: str | os.PathLike, evaluation: str | None = None) -> Findings:
    """Reads a folder.

    Args:
      folder: a training run or an exported model, evaluated.
      evaluation: the name of a file in its eval/, without suffix; by default the newest
        of a single view of all faces.

    Raises:
      UserError: there is no evaluation, none of that name, or a damaged file.
    """
    folder = pathlib.Path(folder)
    paths = sorted((folder / "eval").glob("*.json"))
    documents = {path.stem: _read(path) for path in paths}
    evaluations = {
        # Older evaluations were of the network as trained, on all faces.
        name: {"temperature": 1.0, "left_out": 0} | document
        for name, document in documents.items()
        if "confusion_matrix" in document
    }
    if not evaluations:
        raise UserError(
            f"{folder / 'eval'} holds no evaluation: make one with\n"
            f"  {_command(folder, 'NAME', 'SPLIT')}"
        )
    newest = sorted(paths, key=lambda path: path.stat().st_mtime)
    names = [path.stem for path in newest if path.stem in evaluations]
    singles = [
        name
        for name in names
        if evaluations[name]["tta"] == "none" and not evaluations[name]["left_out"]
    ]
    chosen = evaluation or (singles or names)[-1]
    if chosen not in evaluations:
        raise UserError(
            f"--evaluation: expected one of {sorted(evaluations)}, found {chosen!r}"
        )
    corruptions = [
        document
        for document in documents.values()
        if "mean_corruption_accuracy" in document
        and same_faces(document, evaluations[chosen])
    ]
    return Findings(
        folder,
        evaluations,
        chosen,
        _read_arrays(folder / "eval" / f"{chosen}.npz", evaluations[chosen]),
        corruptions[-1] if corruptions else None,
        _read_calibration(folder),
        read_metrics(folder / "metrics.jsonl"),
        _read_origin(folder),
    )


def same_faces(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two documents are of the same split."""
    return (a["dataset"], a["split"]) == (b["dataset"], b["split"])


def load_images(findings: Findings, data_dir: str | os.PathLike) -> np.ndarray:
    """Reads the pictures of the chosen evaluation, in the order of its arrays.

    Args:
      findings: with arrays.
      data_dir: where the evaluated data set is prepared.

    Returns:
      uint8 [n, height, width, channels].

    Raises:
      UserError: it is not there, or holds other faces.
    """
    name, split = (
        findings.result["dataset"].rpartition("/")[0],
        findings.result["split"],
    )
    try:
        faces = datasets.load_split(datasets.load_builder(name, data_dir), split)
    except UserError as error:
        raise UserError(
            f"{error}\nor name its place by --data_dir, or leave the pictures out by "
            "--no-faces"
        ) from None
    if faces["id"] != findings.arrays["id"].tolist():
        raise UserError(
            f"{data_dir}: {name} {split} is not what {findings.chosen} was evaluated "
            "on: evaluate again, or name its place by --data_dir"
        )
    return faces["image"]


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): make it again") from None


def _read_arrays(
    path: pathlib.Path, result: dict[str, Any]
) -> dict[str, np.ndarray] | None:
    if not path.exists():
        return None
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in ("probabilities", "label", "id")}
    except Exception as error:  # NumPy and zipfile have an error for each damage.
        raise UserError(
            f"{path} is damaged ({error}): evaluate again, or remove it"
        ) from None
    if len(arrays["label"]) != result["n"]:
        raise UserError(
            f"{path}: expected the {result['n']} faces of the JSON beside it, found "
            f"{len(arrays['label'])}: evaluate again"
        )
    return arrays


def _read_calibration(folder: pathlib.Path) -> dict[str, Any] | None:
    """Of a run, or of an exported model."""
    if (folder / METADATA).exists():
        return _read(folder / METADATA)["calibration"]
    path = folder / "calibration.json"
    return _read(path) if path.exists() else None


def _read_origin(folder: pathlib.Path) -> str:
    if (folder / METADATA).exists():
        document = _read(folder / METADATA)
        data, more = document["training_data"], "exported"
    elif (folder / "config.json").exists():
        document = _read(folder / "config.json")
        data = document["dataset"]
        more = f"{document['train']['num_epochs']} epochs, seed {document['seed']}"
    else:
        return ""
    return (
        f"Network {document['model']['name']}, trained on {data['name']} "
        f"({data['train_split']}), {more}."
    )
