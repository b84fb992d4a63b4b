"""Exact evaluation of a network on a split: every face once, the tail masked.

    metrics, probabilities = evaluate(eval_step, variables, pipeline, batch_size=256)
    result = summarize(metrics, EMOTIONS)

`eval_step` comes from `create_eval_step`; the same one serves validation within
training (one view) and the evaluation script (with test-time augmentation).
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from deepfer_jax import parallel
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.pipeline import Resident
from deepfer_jax.errors import UserError
from deepfer_jax.metrics import Metrics, summarize
from deepfer_jax.models import create_model
from deepfer_jax.steps import make_eval_step, make_predict


def create_network(config: ConfigDict, **options: Any) -> nn.Module:
    """Returns the network that `config.model` describes.

    Raises:
      UserError: a name or an option that there is not.
    """
    model = config.model
    if model.dtype not in ("float32", "bfloat16"):
        raise UserError(
            "config.model.dtype: expected 'float32' or 'bfloat16', found "
            f"{model.dtype!r}"
        )
    try:
        return create_model(
            model.name,
            num_classes=len(EMOTIONS),
            dtype=jnp.dtype(model.dtype),
            dropout_rate=model.dropout_rate,
            **model.options,
            **options,
        )
    except ValueError as error:
        raise UserError(f"config.model: {error}") from None


def _one_view(images: jax.Array) -> jax.Array:
    return images[None]


def _flip_views(images: jax.Array) -> jax.Array:
    return jnp.stack([images, images[:, :, ::-1]])


def _ten_crop_views(images: jax.Array) -> jax.Array:
    """Corners and centre of 11/12 of the height and width, and their mirror images.

    Each crop (44 of 48 pixels) is resized to the full size bilinearly, so that a
    network of any kind can read it.
    """
    height, width = images.shape[1:3]
    h, w = round(height * 11 / 12), round(width * 11 / 12)
    corners = [(0, 0), (0, width - w), (height - h, 0), (height - h, width - w)]
    places = [*corners, ((height - h) // 2, (width - w) // 2)]
    crops = jnp.stack([images[:, y : y + h, x : x + w] for y, x in places])
    crops = jax.image.resize(crops, (len(places), *images.shape), "linear")
    return jnp.concatenate([crops, crops[:, :, :, ::-1]])


# Test-time augmentation: images [b, H, W, C] -> [views, b, H, W, C].
VIEWS = {"none": _one_view, "flip": _flip_views, "ten_crop": _ten_crop_views}


def create_eval_step(config: ConfigDict, tta: str = "none") -> Callable:
    """Compiles the evaluation step of a configuration's network.

    Args:
      config: a run's configuration; its `model` part is read.
      tta: a name of VIEWS.
    """
    predict = make_predict(create_network(config), config.model.mean, config.model.std)
    return parallel.pmap_eval(make_eval_step(predict, VIEWS[tta]))


def evaluate(
    eval_step: Callable, variables: Any, pipeline: Any, batch_size: int
) -> tuple[Metrics, np.ndarray]:
    """Runs a whole split through the network, in stored order.

    Args:
      eval_step: from `create_eval_step`.
      variables: of the network, replicated.
      pipeline: one of deepfer_jax.data.pipeline, of the split.
      batch_size: faces a call; rounded up to a multiple of the number of devices.

    Returns:
      Sums over all faces, and probabilities float32 [faces, classes].
    """
    size = parallel.round_up_to_devices(batch_size)
    total, outputs = None, []
    for batch in pipeline.in_order(size):
        num_faces = len(batch["label"])
        padded = parallel.split_over_devices(parallel.pad_batch(batch, size))
        sums, probabilities = eval_step(variables, padded)
        total = sums if total is None else total.merge(sums)
        probabilities = jax.device_get(probabilities)
        outputs.append(probabilities.reshape(size, -1)[:num_faces])
    return total, np.concatenate(outputs)


def evaluate_split(
    config: ConfigDict,
    variables: Any,
    builder: Any,
    split: str,
    tta: str,
    folder: pathlib.Path,
) -> dict[str, Any]:
    """Evaluates a trained network and writes what was found.

    Args:
      config: with the parts `model` and `evaluation`.
      variables: {params, batch_stats} of the network.
      builder: a prepared data set.
      split: its name, such as "public_test".
      tta: a name of VIEWS.
      folder: `eval/<dataset>_<split>_<tta>.json` and `.npz` (probabilities, label, id)
        are written below it.

    Returns:
      `metrics.summarize`'s numbers, and what was evaluated.
    """
    batch_size = config.evaluation.batch_size
    pipeline = Resident(builder, split, batch_size, seed=0)
    metrics, probabilities = evaluate(
        create_eval_step(config, tta),
        parallel.replicate(variables),
        pipeline,
        batch_size,
    )
    result = {
        "dataset": builder.info.full_name,
        "split": split,
        "tta": tta,
        "classes": list(EMOTIONS),
    } | summarize(metrics, EMOTIONS)
    path = folder / "eval" / f"{builder.name}_{split}_{tta}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    np.savez_compressed(
        path.with_suffix(".npz"),
        probabilities=probabilities,
        label=np.concatenate([b["label"] for b in pipeline.in_order(batch_size)]),
        id=np.array(pipeline.ids),
    )
    return result | {"path": str(path)}


def format_result(result: dict[str, Any]) -> str:
    """The table that the evaluation script prints."""
    low, high = result["accuracy_ci95"]
    lines = [
        f"{result['dataset']} {result['split']}, test-time augmentation "
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
