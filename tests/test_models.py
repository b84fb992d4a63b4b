"""models: a table of parameters and FLOPs, torchvision's counts, modes, types."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.models import MODELS, create_model

# Parameters and FLOPs a face (XLA's cost analysis) for 48x48x1 and seven classes.
TABLE = {
    "tiny": (222_743, 14.4e6),
    "base": (2_796_263, 571e6),
    "vgg": (40_376_519, 912e6),
    "resnet18": (11_173_831, 127e6),
    "resnet34": (21_281_991, 248e6),
    "resnet50": (23_516_103, 355e6),
}
TORCHVISION = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
}


def shapes_of(model, shape=(48, 48, 1)):
    images = jnp.zeros((1, *shape))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images))


def num_parameters(variables):
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("name", MODELS)
def test_parameters_and_flops(name):
    model = create_model(name)
    variables = shapes_of(model)
    image = jax.ShapeDtypeStruct((1, 48, 48, 1), jnp.float32)
    flops = jax.jit(model.apply).lower(variables, image).cost_analysis()["flops"]
    assert num_parameters(variables) == TABLE[name][0]
    assert flops == pytest.approx(TABLE[name][1], rel=0.01)


def test_sizes_promised():
    assert TABLE["tiny"][0] <= 0.3e6
    assert TABLE["tiny"][1] <= 15e6
    assert 2e6 <= TABLE["base"][0] <= 5e6


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_parameter_counts(name):
    model = create_model(name, num_classes=1000)
    assert num_parameters(shapes_of(model, (224, 224, 3))) == TORCHVISION[name]


def test_resnet_stage_sizes_and_small_stem():
    def stage_sizes(stem):
        model = create_model("resnet18", stem=stem)
        _, captured = jax.eval_shape(
            lambda: model.init_with_output(
                jax.random.key(0),
                jnp.zeros((1, 48, 48, 1)),
                capture_intermediates=lambda m, _: (m.name or "").startswith("stage"),
            )
        )
        stages = captured["intermediates"]
        return [stages[f"stage{i}"]["__call__"][0].shape[1] for i in (1, 2, 3, 4)]

    assert stage_sizes("imagenet") == [12, 6, 3, 2]
    assert stage_sizes("small") == [48, 24, 12, 6]


@pytest.fixture(scope="module")
def tiny():
    model = create_model("tiny", dropout_rate=0.5)
    images = jax.random.normal(jax.random.key(1), (4, 48, 48, 1))
    return model, jax.jit(model.init)(jax.random.key(0), images), images


def test_training_moves_statistics_and_evaluation_does_not(tiny):
    model, variables, images = tiny

    @functools.partial(jax.jit, static_argnums=0)
    def apply(train):
        rngs = {"dropout": jax.random.key(0)}
        return model.apply(
            variables, images, train=train, mutable=["batch_stats"], rngs=rngs
        )

    logits, changed = apply(False)
    assert logits.shape == (4, 7)
    jax.tree.map(
        np.testing.assert_array_equal, changed["batch_stats"], variables["batch_stats"]
    )
    _, changed = apply(True)
    before = variables["batch_stats"]["stem_norm"]["mean"]
    assert np.abs(changed["batch_stats"]["stem_norm"]["mean"] - before).max() > 0


def test_each_face_is_read_by_itself_in_evaluation(tiny):
    model, variables, images = tiny
    apply = jax.jit(model.apply)
    alone = jnp.concatenate([apply(variables, x[None]) for x in images])
    whole = apply(variables, images)
    np.testing.assert_allclose(whole, alone, atol=1e-5)


def test_batch_statistics_are_those_of_all_devices(tiny):
    _, variables, images = tiny
    plain = create_model("tiny")
    synced = create_model("tiny", bn_axis_name="batch")

    def train_with(model, x):
        return model.apply(variables, x, train=True, mutable=["batch_stats"])[0]

    expected = jax.jit(lambda x: train_with(plain, x))(images)
    per_device = jax.vmap(lambda x: train_with(synced, x), axis_name="batch")
    split = jax.jit(per_device)(images.reshape(2, 2, 48, 48, 1))
    np.testing.assert_allclose(split.reshape(4, 7), expected, atol=1e-4)
    # The axis is not needed to evaluate or to create the network.
    jax.eval_shape(synced.apply, variables, images)
    shapes_of(synced)


@pytest.mark.parametrize("name", ["tiny", "resnet18"])
def test_bfloat16_is_close_and_keeps_float32_parameters(name):
    images = jax.random.normal(jax.random.key(1), (2, 48, 48, 1))
    exact, low = create_model(name), create_model(name, dtype=jnp.bfloat16)
    variables = jax.jit(low.init)(jax.random.key(0), images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    expected = jax.jit(exact.apply)(variables, images)
    logits = jax.jit(low.apply)(variables, images)
    assert logits.dtype == jnp.float32
    scale = float(jnp.abs(expected).max())
    assert float(jnp.abs(logits - expected).max()) < 0.05 * max(scale, 1.0)


def test_unknown_names_and_options_are_named():
    with pytest.raises(ValueError, match=r"'base'.*found 'huge'"):
        create_model("huge")
    with pytest.raises(ValueError, match=r"model 'tiny'.*'stem'"):
        create_model("tiny", stem="small")
    with pytest.raises(ValueError, match=r"stem: expected .* found 'large'"):
        create_model("resnet18", stem="large")
