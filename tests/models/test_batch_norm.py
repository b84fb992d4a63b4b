"""batch_norm: the same value, statistics and gradients as flax.linen.BatchNorm."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.models.batch_norm import BatchNorm

SHAPES = [(16, 5, 6, 3), (3, 5, 5, 4), (24, 7)]


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype(np.float32)


def create(ours, x, **options):
    """A layer of ours or Flax's, and the same variables for either."""
    options = {"momentum": 0.9, "epsilon": 1e-3} | options
    channels = (x.shape[-1],)
    variables = {
        "params": {name: random(*channels, seed=i) for i, name in enumerate(NAMES)},
        "batch_stats": {
            "mean": random(*channels, seed=3),
            "var": np.abs(random(*channels, seed=4)),
        },
    }
    if ours:
        return BatchNorm(train=True, **options), variables
    return nn.BatchNorm(use_running_average=False, **options), variables


NAMES = ("scale", "bias")


def run(ours, x, **options):
    """Result, new statistics and the gradients of parameters and x."""
    layer, variables = create(ours, x, **options)

    def loss(params, x):
        y, new = layer.apply(variables | {"params": params}, x, mutable=["batch_stats"])
        return jnp.sin(y.astype(jnp.float32)).sum(), (y, new["batch_stats"])

    grads, (y, stats) = jax.grad(loss, argnums=(0, 1), has_aux=True)(
        variables["params"], x
    )
    return y, stats, grads


def assert_close(a, b, atol, rtol=2e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, np.float32), np.asarray(b, np.float32), rtol, atol
        ),
        a,
        b,
    )
    assert jax.tree.map(lambda x: x.dtype, a) == jax.tree.map(lambda x: x.dtype, b)


@pytest.mark.parametrize("shape", SHAPES)
def test_as_flax(shape):
    x = random(*shape)
    assert_close(run(True, x), run(False, x), atol=3e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_as_flax_in_bfloat16(shape):
    x = jnp.asarray(random(*shape), jnp.bfloat16)
    ours, theirs = (run(who, x, dtype=jnp.bfloat16) for who in (True, False))
    assert_close(ours, theirs, atol=0.05, rtol=0.02)


def test_over_four_devices_as_over_one():
    """Statistics and gradients of a batch that four devices share."""
    x = random(16, 5, 6, 3)
    layer, variables = create(True, x, axis_name="batch")

    def run_share(x):
        def loss(params, x):
            y, new = layer.apply(
                variables | {"params": params}, x, mutable=["batch_stats"]
            )
            return jnp.sin(y).sum(), (y, new["batch_stats"])

        (of_params, of_x), (y, stats) = jax.grad(loss, argnums=(0, 1), has_aux=True)(
            variables["params"], x
        )
        return y, stats, (jax.lax.psum(of_params, "batch"), of_x)

    y, stats, (of_params, of_x) = jax.vmap(run_share, axis_name="batch")(
        x.reshape(4, 4, 5, 6, 3)
    )
    first = functools.partial(jax.tree.map, lambda leaf: leaf[0])
    shared = y.reshape(x.shape), first(stats), (first(of_params), of_x.reshape(x.shape))
    assert_close(shared, run(False, x), atol=3e-5)


def test_initial_variables_are_flax_s():
    x = random(4, 5, 5, 3)
    ours, theirs = (create(who, x)[0].init(jax.random.key(0), x) for who in (1, 0))
    assert_close(ours, theirs, atol=0)


def test_frozen_layer_is_as_in_inference():
    x = random(4, 5, 5, 3)
    layer, variables = create(True, x, frozen=lambda path: True)
    y, new = layer.apply(variables, x, mutable=["batch_stats"])
    assert_close(new["batch_stats"], variables["batch_stats"], atol=0)
    inference = nn.BatchNorm(use_running_average=True, epsilon=1e-3)
    assert_close(y, inference.apply(variables, x), atol=0)


def test_lowered_for_accelerators_it_has_their_own_sums():
    """On a CPU sums are products; elsewhere XLA reduces."""
    x = random(16, 5, 6, 3)
    layer, variables = create(True, x)
    apply = jax.jit(functools.partial(layer.apply, mutable=["batch_stats"]))
    for platform, products in (("cpu", 2), ("cuda", 0), ("tpu", 0)):
        lowered = apply.trace(variables, x).lower(lowering_platforms=(platform,))
        assert lowered.as_text().count("dot_general") == products
