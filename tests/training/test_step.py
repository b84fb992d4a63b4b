"""steps: one device equals four, several steps a call, the moving average, masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from deepfer_jax import parallel
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.evaluation.metrics import summarize
from deepfer_jax.evaluation.predict import create_eval_step
from deepfer_jax.runs.trained import build_model
from deepfer_jax.training import optim
from deepfer_jax.training import step as steps
from deepfer_jax.training.groups import Groups
from deepfer_jax.training.state import create_state, eval_variables

# One SGD step with augmentation, class weights and smoothing; the state goes to a file.
ONE_STEP = """
import sys, jax, numpy as np
sys.path.insert(0, ".")
from tests.training.test_step import make_run, make_batch
from deepfer_jax import parallel
run, state = make_run()
assert parallel.num_devices() == int(sys.argv[2])
batch = parallel.split_over_devices(make_batch(16))
batch = jax.tree.map(lambda x: x[:, None], batch)
state, metrics = run(parallel.replicate(state), {}, batch)
leaves = jax.device_get(jax.tree.leaves((state, metrics)))
np.savez(sys.argv[1], *leaves)
"""


def make_config(**train):
    config = default.get_config()
    # A small one of tiny's family, quick to compile.
    config.model.options = {
        "stem_features": 8,
        "stage_features": (8, 16),
        "stage_blocks": (1, 1),
    }
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_epochs = 0.0
    config.loss.label_smoothing = 0.1
    config.augment.update({"flip": 0.5, "rotation": 10.0, "erasing": 0.5})
    config.train.update({"ema_decay": 0.5} | train)
    return config


WEIGHTS = np.linspace(0.5, 2.0, 7)


def make_run(config=None, weights=WEIGHTS, steps_per_epoch=100):
    """Returns (pmapped run_steps, state) over plain batches."""
    config = config or make_config()
    model = build_model(config.model, EMOTIONS, bn_axis_name=parallel.AXIS)
    schedule = optim.create_schedule(config.optimizer, 10, 100)
    phase = Groups().phase(0)
    optimizer = optim.create_optimizer(config.optimizer, schedule, phase, 10)
    ema = config.train.ema_decay > 0
    state = create_state(model, optimizer, (48, 48, 1), config.seed, ema, phase)
    weights = None if weights is None else jnp.asarray(weights, jnp.float32)
    train_step = steps.make_train_step(
        config, model, optimizer, schedule, phase, weights
    )
    run = steps.make_run_steps(
        train_step, lambda resident, inputs: inputs, steps_per_epoch
    )
    return parallel.pmap_train(run), state


def make_batch(size, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (size, 48, 48, 1)).astype(np.uint8),
        "label": rng.integers(0, 7, size).astype(np.int32),
    }


def as_inputs(*batches):
    stack = lambda *x: np.stack(x)[None]  # noqa: E731 (one device, steps)
    return jax.tree.map(stack, *batches)


def test_one_device_equals_four(run_python, tmp_path):
    arrays = {}
    for num in (1, 4):
        path = tmp_path / f"{num}.npz"
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={num}"}
        run_python("-c", ONE_STEP, path, num, env=flags, fresh=False)
        arrays[num] = np.load(path)
    assert arrays[1].files == arrays[4].files
    moved = 0
    for name in arrays[1].files:
        np.testing.assert_allclose(arrays[1][name], arrays[4][name], atol=2e-5)
        moved += arrays[1][name].size
    assert moved > 10_000


@pytest.fixture(scope="module")
def trained():
    """Three single steps: (states after each, metrics of each)."""
    run, state = make_run()
    states, metrics = [jax.device_get(state)], []
    state = parallel.replicate(state)
    for seed in range(3):
        state, m = run(state, {}, as_inputs(make_batch(8, seed)))
        states.append(jax.device_get(state))
        metrics.append(jax.device_get(m))
    return states, metrics


def test_several_steps_in_one_call_equal_single_ones(trained):
    run, state = make_run()
    batches = [make_batch(8, seed) for seed in range(3)]
    state, metrics = run(parallel.replicate(state), {}, as_inputs(*batches))
    assert int(state.step) == 3
    for name, values in metrics.items():
        single = np.concatenate([m[name] for m in trained[1]])
        np.testing.assert_allclose(values, single, rtol=2e-3, atol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3),
        jax.device_get(state.params),
        trained[0][-1].params,
    )


def test_steps_beyond_the_end_of_an_epoch_count_for_nothing():
    results = []
    run, start = make_run(steps_per_epoch=3)
    start = jax.device_get(start)  # a step takes its state's memory
    for last in (3, 4):
        batches = [make_batch(8, seed) for seed in (0, 1, 2, last)]
        state, metrics = run(parallel.replicate(start), {}, as_inputs(*batches))
        assert int(state.step) == 3
        results.append(jax.device_get((state, {k: x[:3] for k, x in metrics.items()})))
        state, _ = run(state, {}, as_inputs(*batches))
        assert int(state.step) == 6
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_moving_average_by_hand(trained):
    states, _ = trained
    average = states[0].params["head"]["kernel"]
    for step, state in enumerate(states[1:]):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * state.params["head"]["kernel"]
    ema = eval_variables(states[-1])
    np.testing.assert_allclose(ema["params"]["head"]["kernel"], average, rtol=1e-5)
    assert set(ema) == {"params", "batch_stats"}


def test_without_an_average_the_parameters_are_evaluated():
    _, state = make_run(make_config(ema_decay=0.0))
    assert state.ema == {}
    assert eval_variables(state)["params"] is state.params


def test_metrics_are_those_of_the_weighted_mean(trained):
    _, metrics = trained
    assert set(metrics[0]) == {
        "loss",
        "accuracy",
        "learning_rate",
        "gradient_norm",
        "update_norm",
    }
    assert 1.0 < metrics[0]["loss"][0] < 5.0
    assert metrics[0]["learning_rate"][0] == pytest.approx(0.1)


def test_soft_targets_take_the_place_of_labels():
    batch = make_batch(8, seed=0)
    other = (batch["label"] + 1) % 7
    one_hot, another = (np.eye(7, dtype=np.float32)[x] for x in (batch["label"], other))

    run, start = make_run(weights=None)
    start = jax.device_get(start)  # a step takes its state's memory

    def loss(target):
        soft = batch | {"target": target, "label": np.zeros_like(batch["label"])}
        return float(run(parallel.replicate(start), {}, as_inputs(soft))[1]["loss"][0])

    hard = float(run(parallel.replicate(start), {}, as_inputs(batch))[1]["loss"][0])
    assert loss(one_hot) == pytest.approx(hard, rel=1e-5)
    # Cross entropy is linear in its targets.
    mixed = 0.3 * loss(one_hot) + 0.7 * loss(another)
    assert loss(0.3 * one_hot + 0.7 * another) == pytest.approx(mixed, rel=1e-4)
    assert abs(loss(another) - hard) > 1e-2


def test_the_keys_of_a_step_are_a_function_of_seed_step_and_example():
    def keys_of(num_devices):
        per_device = jax.vmap(
            lambda _: steps.example_keys(jax.random.key(3), 8 // num_devices),
            axis_name=parallel.AXIS,
        )
        return jax.random.key_data(per_device(jnp.arange(num_devices))).reshape(8, -1)

    np.testing.assert_array_equal(keys_of(1), keys_of(4))
    assert len(np.unique(keys_of(1), axis=0)) == 8


def test_evaluation_ignores_masked_examples():
    config = make_config()
    _, state = make_run(config)
    variables = parallel.replicate(eval_variables(state))
    eval_step = create_eval_step(config.model, EMOTIONS)
    batch = make_batch(8)
    masked = parallel.pad_batch(jax.tree.map(lambda x: x[:5], batch), 8)
    np.testing.assert_array_equal(masked["mask"], np.arange(8) < 5)
    names = [str(i) for i in range(7)]
    sums, probabilities = eval_step(variables, parallel.split_over_devices(masked))
    result = summarize(sums, names)
    assert result["n"] == 5
    whole = parallel.split_over_devices(batch | {"mask": np.ones(8, bool)})
    _, expected = eval_step(variables, whole)
    np.testing.assert_allclose(probabilities[0, :5], expected[0, :5], rtol=1e-5)
    true = np.asarray(expected)[0, np.arange(5), batch["label"][:5]]
    assert result["nll"] == pytest.approx(-np.log(true).mean(), rel=1e-5)


def test_sharpness_aware_minimisation_is_the_papers():
    """Foret et al. 2021: w - rate * g(w + rho * g(w) / |g(w)|), statistics of w."""
    config = make_config(ema_decay=0.0)
    config.augment.update({"flip": 0.0, "rotation": 0.0, "erasing": 0.0})
    config.optimizer.update({"momentum": 0.0, "weight_decay": 0.0, "clip_norm": 0.0})
    config.optimizer.sam_rho = rho = 0.5
    batch = make_batch(16)
    run, state = make_run(config, weights=None)
    params, batch_stats = jax.device_get((state.params, state.batch_stats))
    new, metrics = run(parallel.replicate(state), {}, as_inputs(batch))

    model = build_model(config.model, EMOTIONS)
    images = (batch["image"] / 255.0 - config.model.mean[0]) / config.model.std[0]
    targets = np.eye(7)[batch["label"]] * 0.9 + 0.1 / 7

    def loss(params):
        logits, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            jnp.asarray(images, jnp.float32),
            train=True,
            mutable=["batch_stats"],
        )
        return -(targets * jax.nn.log_softmax(logits)).sum(1).mean(), updates

    gradient_of = jax.jit(jax.grad(loss, has_aux=True))
    gradient, updates = gradient_of(params)
    norm = np.sqrt(sum(np.square(g).sum() for g in jax.tree.leaves(gradient)))
    up = jax.tree.map(lambda w, g: w + rho * g / norm, params, gradient)
    sharp, _ = gradient_of(up)
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, params, sharp)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(close, new.params, expected)
    jax.tree.map(close, new.batch_stats, updates["batch_stats"])
    assert metrics["gradient_norm"][0] == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize("step", [0, 5, 1000])
def test_the_average_of_what_stands_still_stands_still_to_the_bit(step):
    values = {"w": jnp.asarray(np.random.default_rng(0).normal(size=9999), jnp.float32)}
    ema = {"params": values, "batch_stats": {}}
    new = steps.update_ema(ema, values, {}, jnp.asarray(step), 0.999)
    np.testing.assert_array_equal(new["params"]["w"], values["w"])
