"""The files of an evaluation: their names, their fields, writing and reading them.

    path = write_result(folder, "none", result)
    write_arrays(path, probabilities, labels, ids)
    results = read_results("runs/tiny")
    results.chosen["accuracy"], results.probabilities().keys()

A folder is a training run (config.json, metrics.jsonl, eval/, perhaps calibration.json)
or an exported model (metadata.json, eval/). Below eval/ lie
`<data set>_<split>_<kind>.json`, where the kind is that of test-time augmentation, with
`_unseen` where faces were left out, or `corruptions`; beside each but the last lies an
`.npz` file with the probabilities, labels and ids of the faces.
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

# Test-time augmentation, as people call it.
VIEW_NAMES = {"none": "one view", "flip": "flip", "ten_crop": "ten crops"}
UNSEEN = "_unseen"
CORRUPTIONS = "corruptions"
CALIBRATION = "calibration.json"


def result_path(
    folder: str | os.PathLike, dataset: str, split: str, kind: str
) -> pathlib.Path:
    """Where an evaluation of that kind lies; dataset as TFDS's full_name."""
    name = dataset.rpartition("/")[0].replace("/", "_")
    return pathlib.Path(folder) / "eval" / f"{name}_{split}_{kind}.json"


def write_result(
    folder: str | os.PathLike, kind: str, result: dict[str, Any]
) -> pathlib.Path:
    """Writes an evaluation's JSON file, and returns its path.

    Args:
      folder: of the run or the exported model.
      kind: of the file.
      result: has dataset and split beside its numbers.
    """
    path = result_path(folder, result["dataset"], result["split"], kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def write_arrays(
    path: pathlib.Path, probabilities: np.ndarray, labels: np.ndarray, ids: list[str]
) -> None:
    """Writes what each face was given beside an evaluation's JSON file."""
    np.savez_compressed(
        path.with_suffix(".npz"),
        probabilities=probabilities,
        label=labels,
        id=np.array(ids),
    )


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Reads any of these JSON files.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        return json.loads(pathlib.Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): make it again") from None


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns probabilities [n, classes], label [n] and id [n] of an `.npz` file.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        with np.load(path) as file:
            return {name: file[name] for name in ("probabilities", "label", "id")}
    except Exception as error:  # NumPy and zipfile have an error for each damage.
        raise UserError(
            f"{path}: expected probabilities of scripts/evaluate.py ({error}): "
            "evaluate again, or remove it"
        ) from None


class Results(NamedTuple):
    """What is known of a trained model; a part that is not there is None or empty.

    evaluations: JSON by the name of its file; name: of the one to show in detail;
    arrays: its probabilities, label and id; corruptions (on the same split) and
    calibration: JSON; metrics: lines of metrics.jsonl; origin: model and data in words.
    """

    folder: pathlib.Path
    evaluations: dict[str, dict[str, Any]]
    name: str
    arrays: dict[str, np.ndarray] | None
    corruptions: dict[str, Any] | None
    calibration: dict[str, Any] | None
    metrics: list[dict[str, Any]]
    origin: str

    @property
    def chosen(self) -> dict[str, Any]:
        """The evaluation that is shown in detail."""
        return self.evaluations[self.name]

    @property
    def labels(self) -> np.ndarray:
        """int [n]: true classes of the chosen evaluation; empty without arrays."""
        return np.zeros(0, int) if self.arrays is None else self.arrays["label"]

    def probabilities(self) -> dict[str, np.ndarray]:
        """Probabilities of the chosen evaluation, float [n, classes], by their name.

        "as trained", "calibrated", or both, for faces that were seen in one view:
        the mean of several views cannot be scaled afterwards.
        """
        if self.arrays is None:
            return {}
        given, used = self.arrays["probabilities"], self.chosen["temperature"]
        if self.calibration is None or self.chosen["tta"] != "none":
            return {"as trained" if used == 1 else "calibrated": given}
        return {
            "as trained": scale(given, 1 / used),
            "calibrated": scale(given, self.calibration["temperature"] / used),
        }

    def command(self, *more: str) -> str:
        """The command that makes the chosen evaluation, or more on its split."""
        dataset = self.chosen["dataset"].rpartition("/")[0]
        if self.chosen["tta"] != "none":
            more = ("--tta", self.chosen["tta"], *more)
        return _command(self.folder, dataset, self.chosen["split"], *more)


def _command(folder: pathlib.Path, dataset: str, split: str, *more: str) -> str:
    where = ("--workdir", shlex.quote(str(folder)), "--dataset", dataset)
    return " ".join(("python scripts/evaluate.py", *where, "--split", split, *more))


def read_results(folder: str | os.PathLike, evaluation: str | None = None) -> Results:
    """Reads a folder.

    Args:
      folder: a training run or an exported model, evaluated.
      evaluation: the name of a file in its eval/, without suffix; by default the newest
        of a single view of all faces.

    Raises:
      UserError: there is no evaluation, none of that name, or a damaged file.
    """
    folder = pathlib.Path(folder)
    paths = sorted((folder / "eval").glob("*.json"), key=lambda p: p.stat().st_mtime)
    documents = {path.stem: read_json(path) for path in paths}
    evaluations = {k: d for k, d in documents.items() if "confusion_matrix" in d}
    if not evaluations:
        raise UserError(
            f"{folder / 'eval'} holds no evaluation: make one with\n"
            f"  {_command(folder, 'NAME', 'SPLIT')}"
        )
    singles = [
        name
        for name, document in evaluations.items()
        if document["tta"] == "none" and not document["left_out"]
    ]
    name = evaluation or (singles or list(evaluations))[-1]
    if name not in evaluations:
        raise UserError(
            f"--evaluation: expected one of {sorted(evaluations)}, found {name!r}"
        )
    corruptions = [
        document
        for document in documents.values()
        if "mean_corruption_accuracy" in document
        and same_faces(document, evaluations[name])
    ]
    return Results(
        folder,
        dict(sorted(evaluations.items())),
        name,
        _read_arrays(folder / "eval" / f"{name}.npz", evaluations[name]),
        corruptions[-1] if corruptions else None,
        _read_calibration(folder),
        read_metrics(folder / "metrics.jsonl"),
        _read_origin(folder),
    )


def same_faces(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two documents are of the same split."""
    return (a["dataset"], a["split"]) == (b["dataset"], b["split"])


def load_images(results: Results, data_dir: str | os.PathLike) -> np.ndarray:
    """Reads the pictures of the chosen evaluation, in the order of its arrays.

    Args:
      results: with arrays.
      data_dir: where the evaluated data set is prepared.

    Returns:
      uint8 [n, height, width, channels].

    Raises:
      UserError: it is not there, or holds other faces.
    """
    name = results.chosen["dataset"].rpartition("/")[0]
    split = results.chosen["split"]
    try:
        faces = datasets.load_split(datasets.load_builder(name, data_dir), split)
    except UserError as error:
        raise UserError(
            f"{error}\nor name its place by --data_dir, or leave the pictures out by "
            "--no-faces"
        ) from None
    if results.arrays is None or faces["id"] != results.arrays["id"].tolist():
        raise UserError(
            f"{data_dir}: {name} {split} is not what {results.name} was evaluated "
            "on: evaluate again, or name its place by --data_dir"
        )
    return faces["image"]


def _read_arrays(
    path: pathlib.Path, result: dict[str, Any]
) -> dict[str, np.ndarray] | None:
    if not path.exists():
        return None
    arrays = read_arrays(path)
    if len(arrays["label"]) != result["n"]:
        raise UserError(
            f"{path}: expected the {result['n']} faces of the JSON beside it, found "
            f"{len(arrays['label'])}: evaluate again"
        )
    return arrays


def _read_calibration(folder: pathlib.Path) -> dict[str, Any] | None:
    """Of a run, or of an exported model."""
    if (folder / METADATA).exists():
        return read_json(folder / METADATA)["calibration"]
    path = folder / CALIBRATION
    return read_json(path) if path.exists() else None


def _read_origin(folder: pathlib.Path) -> str:
    if (folder / METADATA).exists():
        document = read_json(folder / METADATA)
        data, more = document["training_data"], "exported"
    elif (folder / "config.json").exists():
        document = read_json(folder / "config.json")
        data = document["dataset"]
        more = f"{document['train']['num_epochs']} epochs, seed {document['seed']}"
    else:
        return ""
    return (
        f"Network {document['model']['name']}, trained on {data['name']} "
        f"({data['train_split']}), {more}."
    )
