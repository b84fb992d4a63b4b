"""Exact evaluation of a network on a split: every face once, the tail masked.

    trained = load_trained("runs/tiny")
    faces = open_split(builder, "public_test", trained.classes)
    eval_step = create_eval_step(trained.model_config, trained.classes)
    metrics, probabilities = evaluate(eval_step, trained.variables, faces, 256)
    result = summarize(metrics, trained.classes)

The same `eval_step` serves validation within training (one view), the evaluation script
(with test-time augmentation and corruptions) and calibration.
"""

import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from deepfer_jax import parallel
from deepfer_jax.data.split import Split
from deepfer_jax.errors import UserError
from deepfer_jax.evaluation import corruptions
from deepfer_jax.evaluation.metrics import Metrics, summarize
from deepfer_jax.evaluation.predict import create_eval_step
from deepfer_jax.evaluation.results import (
    CORRUPTIONS,
    UNSEEN,
    write_arrays,
    write_result,
)
from deepfer_jax.runs.trained import TrainedModel


def open_split(
    builder: Any,
    split: str,
    classes: Sequence[str],
    leave_out: np.ndarray | None = None,
) -> Split:
    """Opens a split to evaluate a network of these classes on it.

    Labels are mapped by name, so that the data set may lack classes or have them in
    another order.

    Raises:
      UserError: faces of a class that the network does not know.
    """
    faces = Split(builder, split, leave_out)
    try:
        faces.relabel(classes)
    except ValueError as error:
        raise UserError(f"{builder.data_path}, split {split}: {error}") from None
    return faces


def evaluate(
    eval_step: Callable, variables: Any, faces: Any, batch_size: int
) -> tuple[Metrics, np.ndarray]:
    """Runs a whole split through the network, in stored order.

    Where several processes evaluate together, each reads its own rows of every batch,
    and all return the same.

    Args:
      eval_step: from `create_eval_step`.
      variables: of the network, replicated.
      faces: a Split, or what else has its `in_order`.
      batch_size: faces a call; rounded up to a multiple of the number of devices.

    Returns:
      Sums over all faces, and probabilities float32 [faces, classes].
    """
    size = parallel.round_up_to_devices(batch_size)
    rows = parallel.local_rows(size)
    total: Any = None
    outputs = []
    for batch in faces.in_order(size, rows):
        batch = {name: batch[name] for name in ("image", "label")}
        padded = parallel.pad_batch(batch, rows.stop - rows.start)
        sums, probabilities = eval_step(variables, parallel.split_over_devices(padded))
        total = sums if total is None else total.merge(sums)
        outputs.append(parallel.gather_rows(probabilities))
    return total, np.concatenate(outputs)[: faces.num_examples]


def evaluate_split(
    trained: TrainedModel,
    builder: Any,
    split: str,
    tta: str,
    batch_size: int,
    folder: pathlib.Path,
    leave_out: np.ndarray | None = None,
) -> dict[str, Any]:
    """Evaluates a trained network and writes what was found.

    Args:
      trained: from `load_trained`.
      builder: a prepared data set.
      split: its name, such as "public_test".
      tta: a name of VIEWS.
      batch_size: faces a call.
      folder: `eval/<dataset>_<split>_<tta>.json` and `.npz` (probabilities, label, id)
        are written below it.
      leave_out: bool [N], faces that are not counted because they, or near copies of
        them, were trained on; the files are then called `..._<tta>_unseen`.

    Returns:
      `metrics.summarize`'s numbers, and what was evaluated.
    """
    faces = open_split(builder, split, trained.classes, leave_out)
    eval_step = create_eval_step(
        trained.model_config, trained.classes, tta, trained.temperature
    )
    variables = parallel.replicate(trained.variables)
    metrics, probabilities = evaluate(eval_step, variables, faces, batch_size)
    result = {
        "dataset": builder.info.full_name,
        "split": split,
        "tta": tta,
        "left_out": 0 if leave_out is None else int(leave_out.sum()),
        "temperature": trained.temperature,
        "classes": list(trained.classes),
    } | summarize(metrics, trained.classes)
    kind = tta if leave_out is None else tta + UNSEEN
    path = write_result(folder, kind, result)
    write_arrays(path, probabilities, faces.labels, faces.ids)
    return result | {"path": str(path)}


class _Corrupted:
    """A split seen through a corruption; what befalls a face depends on its place."""

    def __init__(self, faces: Any, name: str, severity: int):
        self._faces, self.num_examples = faces, faces.num_examples
        self._corrupt = corruptions.make_corrupt(name, severity)

    def in_order(self, batch_size: int, rows: slice) -> Iterator[dict[str, np.ndarray]]:
        first = 0
        for batch in self._faces.in_order(batch_size):
            num_faces = len(batch["label"])
            images = parallel.pad_batch(batch, batch_size)["image"]
            places = first + jnp.arange(batch_size)
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), places)
            corrupted = jax.device_get(self._corrupt(keys, jnp.asarray(images)))[
                :num_faces
            ]
            yield {"image": corrupted[rows], "label": batch["label"][rows]}
            first += num_faces


def evaluate_corruptions(
    trained: TrainedModel,
    builder: Any,
    split: str,
    batch_size: int,
    folder: pathlib.Path,
) -> dict[str, Any]:
    """Evaluates a network, one view, on faces made dark, blurred, covered and so on.

    Arguments as `evaluate_split`'s; writes `eval/<dataset>_<split>_corruptions.json`.

    Returns:
      clean_accuracy, severities, accuracy (by corruption, a list by severity),
      mean_accuracy (by corruption) and mean_corruption_accuracy (the mean of those), in
      [0, 1].
    """
    faces = open_split(builder, split, trained.classes)
    eval_step = create_eval_step(trained.model_config, trained.classes)
    variables = parallel.replicate(trained.variables)
    batch_size = parallel.round_up_to_devices(batch_size)

    def accuracy(faces) -> float:
        metrics, _ = evaluate(eval_step, variables, faces, batch_size)
        return summarize(metrics, trained.classes)["accuracy"]

    names = corruptions.CORRUPTIONS
    accuracies = {
        name: [
            accuracy(_Corrupted(faces, name, severity))
            for severity in corruptions.SEVERITIES
        ]
        for name in tqdm.tqdm(names, "corruptions", disable=None, leave=False)
    }
    means = {name: float(np.mean(row)) for name, row in accuracies.items()}
    result = {
        "dataset": builder.info.full_name,
        "split": split,
        "n": faces.num_examples,
        "clean_accuracy": accuracy(faces),
        "severities": list(corruptions.SEVERITIES),
        "accuracy": accuracies,
        "mean_accuracy": means,
        "mean_corruption_accuracy": float(np.mean(list(means.values()))),
    }
    path = write_result(folder, CORRUPTIONS, result)
    return result | {"path": str(path)}


def format_result(result: dict[str, Any]) -> str:
    """The table that the evaluation script prints."""
    low, high = result["accuracy_ci95"]
    without = f" ({result['left_out']:,} left out)" if result["left_out"] else ""
    lines = [
        f"{result['dataset']} {result['split']}{without}, test-time augmentation "
        f"{result['tta']}:",
        f"  accuracy           {result['accuracy']:7.2%}  of {result['n']:,} faces "
        f"(95 % interval {low:.2%} to {high:.2%})",
        f"  macro-F1           {result['macro_f1']:7.2%}",
        f"  balanced accuracy  {result['balanced_accuracy']:7.2%}",
        f"  calibration error  {result['ece']:7.2%}",
        f"  log-likelihood     {-result['nll']:7.4f}",
        "",
        f"  {'class':<10}{'precision':>10}{'recall':>9}{'F1':>9}{'faces':>8}",
    ]
    lines += [
        f"  {name:<10}{row['precision']:>10.1%}{row['recall']:>9.1%}{row['f1']:>9.1%}"
        f"{row['support']:>8,}"
        for name, row in result["per_class"].items()
    ]
    lines += ["", "  rows are true classes, columns predicted ones:"]
    lines.append(" " * 12 + "".join(f"{name:>9}" for name in result["classes"]))
    lines += [
        f"  {name:<10}" + "".join(f"{count:>9,}" for count in row)
        for name, row in zip(result["classes"], result["confusion_matrix"], strict=True)
    ]
    return "\n".join(lines)


def format_corruptions(result: dict[str, Any]) -> str:
    """The table that the evaluation script prints with --corruptions."""
    lines = [
        f"accuracy under corruptions, clean {result['clean_accuracy']:.1%}; severity:",
        f"  {'':<16}" + "".join(f"{s:>8}" for s in (*result["severities"], "mean")),
    ]
    for name, row in result["accuracy"].items():
        cells = (*row, result["mean_accuracy"][name])
        lines.append(f"  {name:<16}" + "".join(f"{x:>8.1%}" for x in cells))
    mean = result["mean_corruption_accuracy"]
    lines.append(f"  {'mean':<16}" + f"{mean:>{8 * len(cells)}.1%}")
    return "\n".join(lines)
