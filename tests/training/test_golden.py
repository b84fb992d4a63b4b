"""A step from a fixed seed against numbers that are written down.

Whoever changes what a step computes sees it here, and says why in the commit. To write
them anew: `python -c "from tests.training.test_golden import step; print(step())"`.
"""

import jax
import numpy as np
import optax
import pytest

from deepfer_jax import parallel
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.synthetic.builder import draw_face
from tests.training.test_step import as_inputs, make_config, make_run

GOLDEN = {
    "accuracy": 0.142857,
    "gradient_norm": 0.941385,
    "learning_rate": 0.1,
    "loss": 1.93624,
    "update_norm": 0.198542,
    "average_moved": 0.178687,
    "parameters_before": 12.3301,
    "parameters": 12.2682,
    "batch_statistics": 8.07531,
}


def step():
    """Loss and norms of one step on seven drawn faces, augmentation and all."""
    config = make_config()
    config.augment.mixup_alpha = 0.2
    rng = np.random.default_rng(0)
    batch = {
        "image": np.stack([draw_face(rng, name) for name in EMOTIONS])[..., None],
        "label": np.arange(7, dtype=np.int32),
    }
    run, state = make_run(config)
    old = jax.device_get(state.params)
    state, metrics = run(parallel.replicate(state), {}, as_inputs(batch))
    values = {name: x[0] for name, x in metrics.items()} | {
        "parameters_before": optax.tree.norm(old),
        "parameters": optax.tree.norm(state.params),
        "average_moved": optax.tree.norm(optax.tree.sub(state.ema["params"], old)),
        "batch_statistics": optax.tree.norm(state.batch_stats),
    }
    return {name: float(jax.device_get(x)) for name, x in values.items()}


def test_one_step():
    assert step() == pytest.approx(GOLDEN, rel=1e-3)
