"""Writes a trained network as one folder that runs anywhere jax does.

    export_run("runs/quickstart", "models/quickstart")

The folder holds params.safetensors (variables by path, `params/head/kernel`),
model.jax_export (uint8 [N, H, W, C] of any N in, probabilities [N, classes] out, with
preprocessing and weights inside, for CPU, CUDA and TPU) and metadata.json. A program of
an older jax runs in a newer one, not the reverse: `export_again` makes it anew from the
parameters.
"""

import json
import os
import pathlib
from typing import Any

import flax
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from ml_collections import ConfigDict

import deepfer_jax
from deepfer_jax import preprocess
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.errors import UserError
from deepfer_jax.evaluate import create_network
from deepfer_jax.inference import ARTEFACT, METADATA
from deepfer_jax.run import restore_run
from deepfer_jax.steps import make_predict

PARAMETERS = "params.safetensors"
PLATFORMS = ("cpu", "cuda", "tpu")


def export_run(workdir: str | os.PathLike, out: str | os.PathLike) -> dict[str, Any]:
    """Exports the best checkpoint of a training run.

    Returns:
      The metadata.

    Raises:
      UserError: the workdir holds no finished epoch.
    """
    run = restore_run(workdir)
    metadata = {
        "classes": list(EMOTIONS),
        "num_parameters": sum(x.size for x in jax.tree.leaves(run.variables["params"])),
        "input": {
            "shape": run.metadata["image_shape"],
            "dtype": "uint8",
            "range": [0, 255],
            "color": "gray",
        },
        "training_data": {
            "name": run.config.dataset.name,
            "train_split": run.config.dataset.train_split,
            "validation_split": run.config.dataset.validation_split,
        },
        "metrics": {"validation": run.metadata},
        "model": run.config.model.to_dict(),
    }
    _write(pathlib.Path(out), run.variables, metadata)
    return metadata


def export_again(model: str | os.PathLike, out: str | os.PathLike) -> dict[str, Any]:
    """Makes the program anew from an exported folder's parameters, with this jax.

    Raises:
      UserError: the folder lacks its parameters or metadata.
    """
    variables, metadata = load_model(model)
    _write(pathlib.Path(out), variables, metadata)
    return metadata


def load_model(model: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (variables, metadata) of an exported folder.

    Raises:
      UserError: a file is missing or damaged.
    """
    folder = pathlib.Path(model)
    try:
        metadata = json.loads((folder / METADATA).read_text())
        flat = safetensors.numpy.load_file(folder / PARAMETERS)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: {folder} is no model") from None
    except (ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{folder} is damaged: {error}") from None
    return flax.traverse_util.unflatten_dict(flat, sep="/"), metadata


def _write(folder: pathlib.Path, variables: Any, metadata: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    variables = jax.device_get(variables)
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    # safetensors silently scrambles arrays that are not contiguous.
    flat = {name: np.ascontiguousarray(x) for name, x in flat.items()}
    safetensors.numpy.save_file(flat, folder / PARAMETERS)
    program = export_program(variables, metadata)
    (folder / ARTEFACT).write_bytes(program.serialize())
    metadata["versions"] = {
        "deepfer_jax": deepfer_jax.__version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
    }
    (folder / METADATA).write_text(json.dumps(metadata, indent=2) + "\n")


def export_program(variables: Any, metadata: dict[str, Any]) -> jax.export.Exported:
    """Bakes weights and preprocessing into one program, for every platform.

    Returns:
      A program of uint8 [N, *input shape] -> float32 [N, classes] for symbolic N.
    """
    config = ConfigDict({"model": metadata["model"]})
    predict = make_predict(create_network(config), config.model.mean, config.model.std)
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *metadata["input"]["shape"]), jnp.uint8)
    return jax.export.export(
        jax.jit(lambda x: predict(variables, preprocess.to_unit(x))),
        platforms=PLATFORMS,
    )(images)
