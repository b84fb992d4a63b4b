"""models: a table of parameters and FLOPs, modes, types, parity with PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from measuring import torch_twins

from deepfer_jax.errors import UserError
from deepfer_jax.models import MODELS, create_model, stage_features
from deepfer_jax.models.resnet import BasicBlock, Bottleneck, ResNet
from tests.own_network import OwnNetwork
from tests.variables import random_variables, shapes_of

# Parameters and FLOPs a face (XLA's cost analysis) for 48x48x1 and seven classes.
TABLE = {
    "tiny": (222_743, 14.4e6),
    "small": (2_840_863, 130e6),
    "base": (2_796_263, 571e6),
    "vgg": (40_376_519, 912e6),
    "resnet18": (11_173_831, 163e6),
    "resnet34": (21_281_991, 305e6),
    "resnet50": (23_516_103, 386e6),
    "dlib_resnet29": (5_580_487, 36.4e6),
    "mobilenet": (3_213_575, 58.2e6),
}
TORCHVISION = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
}


def num_parameters(variables):
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


def dtypes(tree):
    return {x.dtype for x in jax.tree.leaves(tree)}


def test_every_network_has_a_row():
    assert TABLE.keys() == MODELS.keys()


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


@pytest.mark.parametrize(
    ("stem", "sizes"), [("imagenet", [12, 6, 3, 2]), ("small", [48, 24, 12, 6])]
)
def test_resnet_stage_sizes(stem, sizes):
    model = create_model("resnet18", stem=stem)
    _, captured = jax.eval_shape(
        lambda: model.init_with_output(
            jax.random.key(0),
            jnp.zeros((1, 48, 48, 1)),
            capture_intermediates=lambda m, _: (m.name or "").startswith("stage"),
        )
    )
    stages = captured["intermediates"]
    assert [stages[f"stage{i}"]["__call__"][0].shape[1] for i in (1, 2, 3, 4)] == sizes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny", {"stem/conv", "stage1/block1/conv1", "stage2/block1/downsample/norm"}),
        ("vgg", {"stage1/conv1", "stage4/norm2", "fc1", "fc2"}),
        ("resnet18", {"stem/norm", "stage1/block0/conv1", "stage2/block0/norm2"}),
        ("resnet50", {"stage1/block0/downsample/conv", "stage4/block2/norm3"}),
    ],
)
def test_parameter_paths(name, expected):
    paths = flatten_dict(shapes_of(create_model(name))["params"], sep="/")
    assert {path.rpartition("/")[0] for path in paths} > expected | {"head"}


@pytest.mark.parametrize("name", MODELS)
def test_types_and_any_batch_size(name):
    model = create_model(name, num_classes=3, dtype=jnp.bfloat16, dropout_rate=0.5)
    variables = shapes_of(model)
    assert dtypes(variables) == {jnp.dtype("float32")}
    rngs = {"dropout": jax.random.key(0)}
    for batch_size in (1, 5):
        images = jnp.zeros((batch_size, 48, 48, 1))
        logits = jax.eval_shape(model.apply, variables, images)
        assert (logits.shape, logits.dtype) == ((batch_size, 3), jnp.float32)
        train = functools.partial(
            model.apply, train=True, mutable=["batch_stats"], rngs=rngs
        )
        logits, changed = jax.eval_shape(train, variables, images)
        assert (logits.shape, logits.dtype) == ((batch_size, 3), jnp.float32)
        assert dtypes(changed) == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", MODELS)
def test_the_axis_of_batch_statistics_is_needed_in_training_only(name):
    model = create_model(name, bn_axis_name="batch")
    images = jnp.zeros((2, 48, 48, 1))
    variables = shapes_of(model)
    jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=True))
    jax.eval_shape(model.apply, variables, images)
    train = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    with pytest.raises(NameError, match="batch"):
        jax.eval_shape(train, variables, images)


@pytest.fixture(scope="module")
def tiny():
    model = create_model("tiny", dropout_rate=0.5)
    images = jax.random.normal(jax.random.key(1), (4, 48, 48, 1))
    return model, random_variables(model), images


def test_training_moves_statistics_and_evaluation_does_not(tiny):
    model, variables, images = tiny

    @functools.partial(jax.jit, static_argnums=0)
    def apply(train):
        rngs = {"dropout": jax.random.key(0)}
        _, changed = model.apply(
            variables, images, train=train, mutable=["batch_stats"], rngs=rngs
        )
        return changed["batch_stats"]

    before = variables["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, apply(False), before)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), apply(True), before)
    assert min(jax.tree.leaves(moved)) > 0


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


@pytest.mark.parametrize("name", ["tiny", "resnet18"])
def test_bfloat16_is_close(name):
    images = jax.random.normal(jax.random.key(1), (2, 48, 48, 1))
    exact, low = create_model(name), create_model(name, dtype=jnp.bfloat16)
    variables = random_variables(exact)
    expected = jax.jit(exact.apply)(variables, images)
    logits = jax.jit(low.apply)(variables, images)
    difference = float(jnp.abs(logits - expected).max())
    assert 0 < difference < 0.05 * float(jnp.abs(expected).max())  # 0: not bfloat16


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(("block", "last"), [(BasicBlock, 2), (Bottleneck, 3)])
def test_initial_scales_and_kernels(block, last, zero):
    model = ResNet(7, block, (2,), zero_init_residual=zero)
    images = jnp.zeros((1, 16, 16, 1))
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    for path, leaf in flatten_dict(params, sep="/").items():
        if path.endswith("/scale"):
            assert (leaf == (0 if zero and f"/norm{last}/" in path else 1)).all(), path
    # He's deviation for fan_out: (2 / (7 * 7 * 64)) ** 0.5 = 0.0253.
    assert np.std(params["stem"]["conv"]["kernel"]) == pytest.approx(0.0253, rel=0.1)


def test_unknown_names_and_options_are_named():
    with pytest.raises(ValueError, match=r"'base'.*found 'huge'"):
        create_model("huge")
    with pytest.raises(ValueError, match=r"'tiny'.*'dropout_rate'.*found 'stem'"):
        create_model("tiny", stem="small")
    with pytest.raises(ValueError, match=r"stem: expected .* found 'large'"):
        create_model("resnet18", stem="large")


def test_a_network_of_ones_own_is_named_by_its_place():
    model = create_model("tests.own_network:OwnNetwork", num_classes=3, features=4)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 48, 48, 1)))
    assert model.apply(variables, jnp.zeros((2, 48, 48, 1))).shape == (2, 3)
    with pytest.raises(ValueError, match=r"OwnNetwork.*'features'.*found 'width'"):
        create_model("tests.own_network:OwnNetwork", width=4)
    for name, message in (
        ("tests.nowhere:Network", "No module named 'tests.nowhere'"),
        ("tests.own_network:Nothing", "has no attribute 'Nothing'"),
        ("os:system", "expected a flax.linen.Module"),
        (":tiny", "Empty module name"),
    ):
        with pytest.raises(ValueError, match=message):
            create_model(name)


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("tiny", (48, 48, 1), {}),
        ("tiny", (50, 46, 1), {}),  # odd sizes on the way down: padding at the end
        ("base", (48, 48, 1), {}),
        ("vgg", (48, 48, 1), {}),
        ("resnet18", (64, 64, 3), {}),
        ("resnet18", (48, 48, 1), {"stem": "small"}),
        ("resnet50", (64, 64, 3), {}),
        ("dlib_resnet29", (96, 96, 3), {}),
        ("dlib_resnet29", (64, 64, 1), {}),  # one pixel before the last pool
        ("dlib_resnet29", (31, 70, 1), {}),  # in one direction sooner
        ("mobilenet", (96, 96, 1), {}),
        ("mobilenet", (50, 46, 3), {}),
    ],
)
def test_parity_with_pytorch(name, shape, options):
    torch = pytest.importorskip("torch")
    model = create_model(name, num_classes=10, **options)
    variables = random_variables(model, shape)
    if name == "mobilenet":  # no shortcut carries what tells images apart
        gains = {4: 2, 2: 0.1}  # of convolutions and the head
        variables["params"] = jax.tree.map(
            lambda x: gains.get(x.ndim, 1) * x, variables["params"]
        )
    net = torch_twins.create_twin(model, shape).eval()
    parameters = list(net.parameters())
    assert sum(p.numel() for p in parameters) == num_parameters(variables)
    assert len(parameters) == len(jax.tree.leaves(variables["params"]))
    torch_twins.copy_variables(net, variables)
    images = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()

    with jax.default_matmul_precision("highest"):
        logits = np.asarray(jax.jit(model.apply)(variables, images))
    assert np.ptp(expected, axis=0).max() > 0.01  # images are told apart
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


def test_what_has_no_twin_is_named():
    pytest.importorskip("torch")
    with pytest.raises(UserError, match="there is no twin of OwnNetwork"):
        torch_twins.create_twin(OwnNetwork(num_classes=7), (48, 48, 1))


@pytest.mark.parametrize("size", [64, 96])
def test_gradients_equal_those_of_pytorch(size):
    """Of training, where a pool's shortcut is filled up or the branch is."""
    torch = pytest.importorskip("torch")
    features, blocks = (8, 16, 32, 32, 32), (1, 2, 1, 1, 1)
    model = create_model("dlib_resnet29", stage_features=features, stage_blocks=blocks)
    shape = (size, size, 1)
    variables = random_variables(model, shape)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(8, *shape)).astype(np.float32)
    labels = np.arange(8) % 7

    def loss_of(params):
        logits, changed = model.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        log_probabilities = jax.nn.log_softmax(logits)
        return -log_probabilities[np.arange(8), labels].mean(), changed

    with jax.default_matmul_precision("highest"):
        step = jax.jit(jax.value_and_grad(loss_of, has_aux=True))
        (loss, changed), gradients = step(variables["params"])

    net, expected = (torch_twins.create_twin(model, shape) for _ in range(2))
    torch_twins.copy_variables(net, variables)
    torch_twins.copy_variables(expected, {"params": gradients} | changed)
    net.train().to(memory_format=torch.channels_last)
    logits = net(torch.from_numpy(images).permute(0, 3, 1, 2))
    theirs = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    theirs.backward()
    assert float(loss) == pytest.approx(theirs.item(), abs=1e-4)
    found = dict(net.named_parameters())
    for path, gradient in expected.named_parameters():
        # Rounding decides what stands on a ReLU's threshold.
        difference = (found[path].grad - gradient).norm().item()
        assert difference < 0.02 * gradient.norm().item() + 1e-4, path
    moved = dict(net.named_buffers())
    for path, mean in expected.named_buffers():
        if path.endswith("running_mean"):
            np.testing.assert_allclose(moved[path], mean, atol=1e-4, err_msg=path)


@pytest.mark.parametrize("name", ["tiny", "resnet18", "dlib_resnet29"])
def test_a_block_whose_branch_is_dropped_is_its_shortcut(name):
    """At a rate of 1 of the last block, its parameters no longer matter."""
    model = create_model(name, stochastic_depth=1.0)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 48, 48, 1)))
    variables = random_variables(model)
    last = {"tiny": "stage4/block1", "resnet18": "stage4/block1"}.get(
        name, "stage5/block1"
    )
    other = jax.tree_util.tree_map_with_path(
        lambda path, x: 2 * x if last in "/".join(p.key for p in path) else x, variables
    )

    @functools.partial(jax.jit, static_argnums=1)
    def logits(variables, train):
        rngs = {"dropout": jax.random.key(0)}
        out = model.apply(
            variables, images, train=train, mutable=["batch_stats"], rngs=rngs
        )
        return out[0]

    # tiny's shortcut has parameters of its own: leave these alone.
    if name == "tiny":
        shortcut = variables["params"]["stage4"]["block1"]["downsample"]
        other["params"]["stage4"]["block1"]["downsample"] = shortcut
    np.testing.assert_array_equal(logits(variables, True), logits(other, True))
    assert not np.array_equal(logits(variables, False), logits(other, False))


@pytest.mark.parametrize(("name", "stages"), [("tiny", 4), ("mobilenet", 5)])
def test_stage_features_by_name(name, stages):
    model = create_model(name)
    variables = random_variables(model)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 48, 48, 1)))
    features = jax.jit(functools.partial(stage_features, model))(variables, images)
    assert list(features) == [f"stage{i + 1}" for i in range(stages)]
    head = variables["params"]["head"]
    pooled = features[f"stage{stages}"].mean((1, 2))
    np.testing.assert_allclose(
        pooled @ head["kernel"] + head["bias"][None],
        jax.jit(model.apply)(variables, images),
        rtol=1e-4,
        atol=1e-4,
    )
