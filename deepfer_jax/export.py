"""Writes a trained network as one folder that runs anywhere jax does.

    export_run("runs/quickstart", "models/quickstart")

The folder holds params.safetensors (variables by path, `params/head/kernel`),
model.jax_export (weights and uint8 [N, H, W, C] of any N in, calibrated probabilities
[N, classes] and what spoils the faces [N, causes] out, with preprocessing inside, for
CPU, CUDA and TPU),
analyze_short.jax_export and analyze_full.jax_export (the same for the faces in whole
frames, each with a detector) and metadata.json with the digests of all. A program of an
older jax runs in a newer one, not the reverse: `export_again` makes it anew from the
parameters.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import deepfer_jax
from deepfer_jax import parallel
from deepfer_jax.data import datasets
from deepfer_jax.errors import UserError
from deepfer_jax.evaluation.calibration import calibrate
from deepfer_jax.evaluation.evaluate import evaluate, open_split
from deepfer_jax.evaluation.predict import create_eval_step, make_judge
from deepfer_jax.evaluation.quality import fit_quality
from deepfer_jax.exported import METADATA, PARAMETERS, digest_of_fields
from deepfer_jax.faces import pose
from deepfer_jax.faces.analyzer import analyze_name
from deepfer_jax.faces.crop import Framing
from deepfer_jax.faces.detector import (
    MAX_FACES,
    load_detector,
    make_detect,
)
from deepfer_jax.faces.program import make_analyze
from deepfer_jax.inference import ARTEFACT
from deepfer_jax.models import preprocess
from deepfer_jax.models.blazeface import BLAZEFACES
from deepfer_jax.models.quality import CAUSES, UNLEARNED
from deepfer_jax.outputs import replacing
from deepfer_jax.pretrained.merge import merge_variables
from deepfer_jax.pretrained.tensors import pack_tensors
from deepfer_jax.runs.trained import TrainedModel, build_model, load_model, load_trained
from deepfer_jax.runs.workdir import read_config

_log = logging.getLogger(__name__)
PLATFORMS = ("cpu", "cuda", "tpu")
# The crop that suits FER2013's faces best, by detector (results/framing.json).
FRAMINGS = {"short": Framing(1.1, -0.05), "full": Framing(1.0, 0.0)}


def export_run(
    workdir: str | os.PathLike,
    out: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    calibrated: bool = True,
    batch_size: int = 256,
    half: bool = False,
) -> dict[str, Any]:
    """Exports a run's best checkpoint, calibrated on its validation split.

    The calibration also goes to WORKDIR/calibration.json.

    Args:
      workdir: of the run.
      out: folder to write.
      data_dir: where the run's data set is prepared, if not where it was in training.
      calibrated: False exports probabilities as the network was trained to give them,
        and needs no data.
      batch_size: faces a call, to calibrate.
      half: stores parameters in float16, at half the size; arithmetic is the same.

    Returns:
      The metadata.

    Raises:
      UserError: the workdir holds no finished epoch, or the data is not there.
    """
    dataset = read_config(workdir).dataset
    trained = load_trained(workdir)
    calibration = None
    if calibrated:
        builder = _load_builder(dataset.name, data_dir or dataset.data_dir)
        splits = (dataset.train_split, dataset.validation_split)
        calibration = calibrate_network(trained, builder, splits[1], batch_size)
        path = pathlib.Path(workdir) / "calibration.json"
        path.write_text(json.dumps(calibration, indent=2) + "\n")
        trained = add_quality(trained, builder, splits, calibration, batch_size)
    shape = trained.metadata["image_shape"]
    metadata = {
        "classes": list(trained.classes),
        "num_parameters": sum(
            x.size for x in jax.tree.leaves(trained.variables["params"])
        ),
        "input": {
            "shape": shape,
            "dtype": "uint8",
            "range": [0, 255],
            "color": "gray" if shape[2] == 1 else "RGB",
        },
        "training_data": {
            "name": dataset.name,
            "train_split": dataset.train_split,
            "validation_split": dataset.validation_split,
        },
        "metrics": {"validation": trained.metadata},
        "calibration": calibration,
        "model": trained.model_config.to_dict(),
    }
    _write(pathlib.Path(out), trained.variables, metadata, half)
    return metadata


def _load_builder(name: str, data_dir: str | os.PathLike) -> Any:
    try:
        return datasets.load_builder(name, data_dir)
    except UserError as error:
        raise UserError(
            f"{error}\nor name its place by --data_dir, or give up calibrated "
            "probabilities and `unsure` by --uncalibrated"
        ) from None


def calibrate_network(
    trained: TrainedModel, builder: Any, split: str, batch_size: int
) -> dict[str, Any]:
    """Returns what `calibration.calibrate` does for a split, one view."""
    pipeline = open_split(builder, split, trained.classes)
    _, probabilities = evaluate(
        create_eval_step(trained.model_config, trained.classes),
        parallel.replicate(trained.variables),
        pipeline,
        batch_size,
    )
    calibration = calibrate(probabilities, pipeline.labels)
    return {"dataset": builder.info.full_name, "split": split} | calibration


def add_quality(
    trained: TrainedModel,
    builder: Any,
    splits: tuple[str, str],
    calibration: dict[str, Any],
    batch_size: int,
) -> TrainedModel:
    """Returns the network with variables["quality"], as `quality.fit_quality` fits it.

    A network that keeps no features has none, with a line in the log.

    Args:
      trained: the network.
      builder: a prepared data set.
      splits: that it was trained and validated on.
      calibration: of `calibrate_network`.
      batch_size: faces a call.
    """
    train, validation = (open_split(builder, s, trained.classes) for s in splits)
    limits = (calibration["threshold"], calibration["temperature"])
    try:
        quality = fit_quality(trained, train, validation, *limits, batch_size)
    except UserError as error:
        _log.warning("covered, blurred and noisy faces will not be told: %s", error)
        return trained
    return trained._replace(variables=trained.variables | {"quality": quality})


def format_calibration(fit: dict[str, Any]) -> str:
    """What the export script says of a calibration."""
    return (
        f"calibrated on {fit['n']:,} faces of {fit['split']}: temperature "
        f"{fit['temperature']:.3f}, calibration error {fit['ece_before']:.2%} -> "
        f"{fit['ece_after']:.2%} (cross-fitted {fit['ece_after_cross_fitted']:.2%})"
        f"\nunsure below {fit['threshold']:.3f}: {fit['coverage']:.1%} of the "
        f"faces are kept, {fit['target_accuracy']:.0%} of them classified correctly"
    )


def export_again(
    model: str | os.PathLike,
    out: str | os.PathLike,
    half: bool | None = None,
    data_dir: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Makes the programs anew from an exported folder's parameters, with this jax.

    Args:
      model: the exported folder.
      out: folder to write.
      half: as of `export_run`; None as it was.
      data_dir: where the data set that it was trained on is prepared, to fit anew how
        faces that it cannot read are told; None leaves that as it was.

    Raises:
      UserError: the folder lacks its parameters or metadata, or they do not fit; the
        data is not there.
    """
    variables, metadata = load_model(model)
    model_config = ConfigDict(metadata["model"])
    network = build_model(model_config, metadata["classes"])
    shape = preprocess.input_shape(model_config, metadata["input"]["shape"])
    fresh = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape)))
    try:
        merged = merge_variables(fresh, variables, new=("quality",))
    except ValueError as error:
        raise UserError(f"{model}: {PARAMETERS}: {error}") from None
    variables = variables | merged
    if data_dir is not None:
        data, calibration = metadata["training_data"], metadata["calibration"]
        if calibration is None:
            raise UserError(f"{model} is not calibrated: export its run again")
        splits = (data["train_split"], data["validation_split"])
        trained = load_trained(model)._replace(variables=variables)
        builder = _load_builder(data["name"], data_dir)
        variables = add_quality(trained, builder, splits, calibration, 256).variables
    half = metadata.get("half", False) if half is None else half
    _write(pathlib.Path(out), variables, metadata, half)
    return metadata


def _write(
    folder: pathlib.Path, variables: Any, metadata: dict[str, Any], half: bool
) -> None:
    flat = flax.traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    if half:
        kernels = {k: x.astype(np.float16) for k, x in flat.items() if x.ndim > 1}
        flat |= kernels
    metadata["weights"], metadata["half"] = list(flat), half
    metadata["causes"] = list(CAUSES if "quality" in variables else UNLEARNED)
    metadata["faces"] = {
        "max_faces": MAX_FACES,
        "causes": [*metadata["causes"], *pose.CAUSES],
        "detectors": {
            name: {
                "min_score": BLAZEFACES[name].min_score,
                "framing": framing._asdict(),
            }
            for name, framing in FRAMINGS.items()
        },
    }
    metadata["versions"] = {
        "deepfer_jax": deepfer_jax.__version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
    }
    shapes = [jax.ShapeDtypeStruct(x.shape, jnp.float32) for x in flat.values()]
    files = {PARAMETERS: pack_tensors(flat)}
    for name in (ARTEFACT, *map(analyze_name, FRAMINGS)):
        files[name] = bytes(export_program(name, shapes, metadata).serialize())
    metadata["sha256"] = {k: hashlib.sha256(x).hexdigest() for k, x in files.items()}
    metadata["sha256"][METADATA] = digest_of_fields(metadata)
    files[METADATA] = (json.dumps(metadata, indent=2) + "\n").encode()
    with contextlib.ExitStack() as stack:  # all are written before any is replaced
        for name, data in files.items():
            stack.enter_context(replacing(folder / name)).write_bytes(data)


def export_program(
    name: str, weights: Sequence[jax.ShapeDtypeStruct], metadata: dict[str, Any]
) -> jax.export.Exported:
    """One of the programs of a folder, with preprocessing and temperature inside.

    Args:
      name: ARTEFACT, or `analyze_name` of a detector.
      weights: shapes of what metadata["weights"] names, float32.
      metadata: as a folder's.

    Returns:
      A program of weights and uint8 [N, *input shape] -> (probabilities float32
      [N, classes], strengths of metadata["causes"] float32 [N, causes]) for symbolic N;
      or of weights, frames uint8 [N, H, W, 3] and size int32 [2] -> (boxes, scores,
      landmarks, mask, probabilities, strengths of metadata["faces"]["causes"], pose)
      for symbolic N, H and W.
    """
    weights = tuple(weights)
    judge = make_judge_of_weights(metadata)
    if name == ARTEFACT:
        (batch,) = jax.export.symbolic_shape("batch")
        images = jax.ShapeDtypeStruct((batch, *metadata["input"]["shape"]), jnp.uint8)
        return _export(judge, weights, images)
    detector = next(d for d in FRAMINGS if analyze_name(d) == name)
    frames = jax.export.symbolic_shape("n, h, w, 3")
    return _export(
        _make_analyze_plainly(detector, judge, metadata),
        weights,
        jax.ShapeDtypeStruct(frames, jnp.uint8),
        jax.ShapeDtypeStruct((2,), jnp.int32),
    )


def rebuild(
    folder: pathlib.Path, metadata: dict[str, Any], name: str
) -> jax.export.Exported:
    """A program of an exported folder again, by this jax; as `export_program`.

    Raises:
      UserError: the folder's parameters are missing or damaged.
    """
    variables, _ = load_model(folder)
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    shapes = [
        jax.ShapeDtypeStruct(flat[name].shape, jnp.float32)
        for name in metadata["weights"]
    ]
    return export_program(name, shapes, metadata)


def _make_analyze_plainly(
    detector: str, judge: Callable, metadata: dict[str, Any]
) -> Callable:
    """Detector, cropping and classifier, with results that need no classes of ours."""
    faces = metadata["faces"]
    about = faces["detectors"][detector]
    detect = make_detect(
        load_detector(detector), faces["max_faces"], about["min_score"]
    )

    def analyze(weights, frames, size):
        detections, readings = make_analyze(
            detect,
            functools.partial(judge, weights),
            Framing(**about["framing"]),
            tuple(metadata["input"]["shape"]),
        )(frames, size)
        return (*detections, *readings)

    return analyze


def make_judge_of_weights(metadata: dict[str, Any]) -> Callable:
    """Returns `judge(weights, uint8 images) -> (probabilities, strengths)`."""
    calibration = metadata.get("calibration") or {"temperature": 1.0}
    judge = make_judge(
        ConfigDict(metadata["model"]), metadata["classes"], calibration["temperature"]
    )

    def judge_with(weights, images):
        flat = dict(zip(metadata["weights"], weights, strict=True))
        variables = flax.traverse_util.unflatten_dict(flat, sep="/")
        return judge(variables, preprocess.to_unit(images))

    return judge_with


def _export(function: Callable, *arguments: Any) -> jax.export.Exported:
    return jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
