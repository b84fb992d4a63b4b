"""What tests/test_hosts.py runs in one process of four devices and in two of two.

python -m tests.hosts_worker OUT.npz DATA_DIR [COORDINATOR NUMBER]
"""

import sys

import jax
import numpy as np

from configs import default
from deepfer_jax import hosts, parallel
from deepfer_jax.data.datasets import load_builder
from deepfer_jax.data.pipeline import create_pipeline
from deepfer_jax.errors import UserError
from deepfer_jax.evaluation.evaluate import evaluate
from deepfer_jax.evaluation.predict import create_eval_step
from deepfer_jax.training.groups import Groups
from deepfer_jax.training.phases import make_phase
from deepfer_jax.training.state import eval_variables
from deepfer_jax.training.train import call

_STEPS = 10
# A negative zero and a NaN of other bits than usual: sums of numbers do not keep them.
_ODD = np.array([0x80000000, 0x7FC12345, 0x3F800000], np.uint32).view(np.float32)


def make_config(options):
    """With SGD, and slowly: else ten steps make much of differences that are rounding.

    At ten times the rate, parameters of `tiny` are 5e-4 apart after ten steps.
    """
    config = default.get_config()
    config.model.options = options
    config.optimizer.update({"name": "sgd", "learning_rate": 0.001})
    config.optimizer.update({"schedule": "constant", "warmup_epochs": 0.0})
    config.augment.flip = 0.5  # by the keys of examples
    config.train.update({"batch_size": 28, "num_epochs": 1})
    return config


def train(config, builder, name):
    """Returns (state after one step, after ten, losses)."""
    size = config.train.batch_size
    data = create_pipeline(name, builder, "train", size, config.seed, 50_000)
    init, run_steps = make_phase(config, data, Groups(()).phase(0))
    state, states, losses = parallel.replicate(init()), [], []
    for step, (resident, inputs) in enumerate(data.epoch(0, 0, 1)):
        state, metrics = call(run_steps, state, resident, inputs, step)
        losses.append(float(metrics["loss"][0]))
        if step in (0, _STEPS - 1):
            states.append(jax.device_get(state))
    return *states, losses


def validate(config, builder, name, state):
    """140 faces in batches of 68: of the last, only the first process has some."""
    faces = create_pipeline(name, builder, "validation", 28, 0, 100)
    eval_step = create_eval_step(config.model, faces.classes)
    variables = parallel.replicate(eval_variables(state))
    sums, probabilities = evaluate(eval_step, variables, faces, 67)
    return {"sums": jax.device_get(sums), "probabilities": probabilities}


def exchange():
    """What hosts offers, between two; returns what the last disagreement says."""
    number = jax.process_index()
    rows = hosts.gather({"number": number, "text": "x" * 5000 * number})
    assert [row["number"] for row in rows] == [0, 1]
    assert [len(row["text"]) for row in rows] == [0, 5000]
    assert hosts.from_first(number) == 0
    mine = {"odd": _ODD if number == 0 else 0 * _ODD, "flag": np.array(number == 0)}
    found = hosts.broadcast(mine)
    np.testing.assert_array_equal(found["odd"].view(np.uint32), _ODD.view(np.uint32))
    assert found["flag"]
    hosts.agree("recipe", {"a": 1, "b": [1, 2]})
    try:
        hosts.agree("recipe", {"seed": number, "rate": 0.1})
    except UserError as error:
        return str(error)


def main(out, data_dir, coordinator=None, number=None):
    together = (coordinator, 2, int(number)) if coordinator else ()
    with hosts.joined(*together):
        found = {"refused": exchange()} if together else {}
        assert parallel.num_devices() == 4
        builder = load_builder("synthetic_faces/small", data_dir)
        small = {"stem_features": 8, "stage_features": (8, 16), "stage_blocks": (1, 1)}
        for name, options in (("resident", {}), ("tf.data", small)):
            config = make_config(options)
            one, ten, losses = train(config, builder, name)
            trees = {"one": one, "ten": ten, "losses": losses}
            if options:  # the smaller is compiled sooner
                trees |= validate(config, builder, name, ten)
            for part, tree in trees.items():
                for i, leaf in enumerate(jax.tree.leaves(tree)):
                    found[f"{name}/{part}/{i}"] = leaf
        np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
