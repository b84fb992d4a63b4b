"""Every program that runs on an accelerator can be lowered for it, here on a CPU.

So an operation that a platform lacks, or a type that it does not take, is seen without
one. What only its compiler finds (memory, layouts) is not.
"""

import types

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from deepfer_jax import export, parallel
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.pipeline import Resident, TfData
from deepfer_jax.evaluation.predict import create_eval_step
from deepfer_jax.inference import ARTEFACT
from deepfer_jax.runs.trained import build_model
from deepfer_jax.training.groups import Groups
from deepfer_jax.training.phases import make_phase
from deepfer_jax.training.state import eval_variables

PLATFORMS = ("cuda", "tpu")
BATCH, STEPS = 4, 3
DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@pytest.fixture
def config():
    config = default.get_config()
    strengths = dict.fromkeys(config.augment, 0.5) | {"crop": 2}
    config.augment.update(strengths)
    config.loss.class_weights = "balanced"
    config.model.dropout_rate = 0.5
    config.train.ema_decay = 0.9
    return config


@pytest.fixture(autouse=True)
def traceable(monkeypatch):
    """pmap's own `lower` takes no platforms, but within jit it is traced."""
    for name, axes in (("train", (None, None, 0)), ("eval", (None, 0))):
        out_axes = (None, None) if name == "train" else (None, 0)

        def compile_lazily(fn, axes=axes, out_axes=out_axes):
            return jax.jit(
                jax.pmap(fn, axis_name=parallel.AXIS, in_axes=axes, out_axes=out_axes)
            )

        monkeypatch.setattr(parallel, f"pmap_{name}", compile_lazily)


def batch_of(*leading):
    shapes = {"image": ((48, 48, 1), jnp.uint8), "label": ((), jnp.int32)}
    return {
        name: jax.ShapeDtypeStruct((*leading, *shape), dtype)
        for name, (shape, dtype) in shapes.items()
    }


def lower(fn, *args):
    text = fn.trace(*args).lower(lowering_platforms=PLATFORMS).as_text()
    assert "stablehlo.convolution" in text
    return text


def train_step(config, lookup):
    """Returns (run_steps, state) as `train` makes them."""
    data = types.SimpleNamespace(
        steps_per_epoch=10,
        image_shape=(48, 48, 1),
        classes=EMOTIONS,
        label_counts=np.ones(len(EMOTIONS)),
        lookup=lookup,
    )
    init, run_steps = make_phase(config, data, Groups().phase(0))
    return run_steps, jax.eval_shape(init)


@DTYPES
def test_training(config, dtype):
    config.model.dtype = dtype
    run_steps, state = train_step(config, TfData.lookup)
    text = lower(run_steps, state, {}, batch_of(1, STEPS, BATCH))
    assert ("bf16" in text) == (dtype == "bfloat16")


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_training_from_resident_data(config, name):
    config.optimizer.name = name
    config.optimizer.sam_rho = 0.05
    run_steps, state = train_step(config, Resident.lookup)
    order = jax.ShapeDtypeStruct((10, 1, BATCH), jnp.int32)
    inputs = jax.ShapeDtypeStruct((1, STEPS, 2), jnp.int32)
    lower(run_steps, state, batch_of(100) | {"order": order}, inputs)


@DTYPES
@pytest.mark.parametrize("tta", ["none", "ten_crop"])
def test_evaluation(config, dtype, tta):
    config.model.dtype = dtype
    _, state = train_step(config, TfData.lookup)
    eval_step = create_eval_step(config.model, EMOTIONS, tta)
    batch = batch_of(1, BATCH) | {"mask": jax.ShapeDtypeStruct((1, BATCH), bool)}
    lower(eval_step, eval_variables(state), batch)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("float32", ARTEFACT),
        ("bfloat16", ARTEFACT),
        ("float32", "analyze_full.jax_export"),
        ("bfloat16", "analyze_short.jax_export"),
    ],
)
def test_the_programs_that_are_exported(config, dtype, name):
    config.model.dtype = dtype
    network = build_model(config.model, EMOTIONS)
    images = jnp.zeros((1, 48, 48, 1))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    metadata = {
        "classes": EMOTIONS,
        "input": {"shape": (48, 48, 1)},
        "model": config.model.to_dict(),
        "weights": list(flat),
        "faces": {
            "max_faces": 4,
            "detectors": {
                detector: {"min_score": 0.5, "framing": framing._asdict()}
                for detector, framing in export.FRAMINGS.items()
            },
        },
    }
    program = export.export_program(name, flat.values(), metadata)
    assert set(program.platforms) == {"cpu", *PLATFORMS}
    assert ("bf16" in program.mlir_module()) == (dtype == "bfloat16")
