"""pretrained.torchvision: parity with PyTorch, round trips, errors name the tensor."""

import pathlib
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from ml_collections import ConfigDict

from deepfer_jax.errors import UserError
from deepfer_jax.models import create_model
from deepfer_jax.pretrained import port, torchvision
from deepfer_jax.pretrained.tensors import read_ported, read_tensors
from tests.torch_resnet import torch_resnet
from tests.variables import random_variables

BLOCKS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}


def torch_net(name):
    """PyTorch's network with random weights and batch statistics far from 0 and 1."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    blocks, bottleneck = BLOCKS[name]
    net = torch_resnet(torch, bottleneck, blocks, 10)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0, 0.2)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 1.5)
    return torch, net


def run_torch(torch, net, images):
    """Logits and the activations of the four stages, as [batch, H, W, C]."""
    stages = []
    for i in range(1, 5):
        getattr(net, f"layer{i}").register_forward_hook(
            lambda _, __, out: stages.append(out.numpy().transpose(0, 2, 3, 1))
        )
    with torch.no_grad():
        logits = net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    return logits, stages


@pytest.mark.parametrize("name", BLOCKS)
def test_parity_with_pytorch_of_logits_and_stages(name, tmp_path):
    torch, net = torch_net(name)
    import safetensors.torch

    state = net.state_dict()
    torch.save(state, tmp_path / "weights.pth")
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    ported = []
    for suffix in (".pth", ".safetensors"):
        out = tmp_path / f"from_{suffix[1:]}.safetensors"
        port.port("torchvision", tmp_path / f"weights{suffix}", out)
        variables, metadata = read_ported(out)
        assert metadata["architecture"] == name
        ported.append(variables)
    jax.tree.map(np.testing.assert_array_equal, *ported)
    images = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype(np.float32)
    expected, expected_stages = run_torch(torch, net, images)
    model = create_model(name, num_classes=10)

    @jax.jit
    def run(variables, images):
        return model.apply(
            variables,
            images,
            capture_intermediates=lambda module, _: module.name in STAGES,
        )

    with jax.default_matmul_precision("highest"):
        logits, found = run(variables, images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    for stage, array in zip(STAGES, expected_stages, strict=True):
        (ours,) = found["intermediates"][stage]["__call__"]
        scale = np.abs(array).max()
        np.testing.assert_allclose(ours / scale, array / scale, rtol=0, atol=1e-4)


STAGES = tuple(f"stage{i}" for i in range(1, 5))


def source_tensors(name="resnet18", seed=0):
    """What torchvision would store, with random values, by our own shapes."""
    model = create_model(name, num_classes=10)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.float32)
    )
    rng = np.random.default_rng(seed)
    tensors = {}
    for path, x in flax.traverse_util.flatten_dict(shapes, sep="/").items():
        shape = x.shape
        if path.endswith("kernel"):
            shape = (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]
        values = rng.normal(size=shape)
        values = np.abs(values) if path.endswith("var") else values
        tensors[source_name(path)] = values.astype(np.float32)
    return tensors


def source_name(path):
    for pattern, replacement in (
        (r"^(params|batch_stats)/", ""),
        (r"^stem/conv", "conv1"),
        (r"^stem/norm", "bn1"),
        (r"^stage(\d)/block(\d)", r"layer\1.\2"),
        (r"downsample/conv", "downsample.0"),
        (r"downsample/norm", "downsample.1"),
        (r"/norm(\d)", r".bn\1"),
        (r"^head", "fc"),
        (r"(kernel|scale)$", "weight"),
        (r"(mean|var)$", r"running_\1"),
    ):
        path = re.sub(pattern, replacement, path)
    return path.replace("/", ".")


def test_every_tensor_arrives_with_its_axes(tmp_path):
    tensors = source_tensors()
    tensors["bn1.num_batches_tracked"] = np.array(3)
    safetensors.numpy.save_file(tensors, tmp_path / "in.safetensors")
    metadata = port.port(
        "torchvision", tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    )
    variables, stored = read_ported(tmp_path / "out.safetensors")
    assert stored == metadata
    assert len(metadata["sha256"]) == 64
    params = variables["params"]
    np.testing.assert_array_equal(
        params["stem"]["conv"]["kernel"][1, 2, 0], tensors["conv1.weight"][:, 0, 1, 2]
    )
    np.testing.assert_array_equal(params["head"]["kernel"], tensors["fc.weight"].T)
    np.testing.assert_array_equal(
        variables["batch_stats"]["stage2"]["block0"]["downsample"]["norm"]["var"],
        tensors["layer2.0.downsample.1.running_var"],
    )


def drop(tensors, name):
    return {k: x for k, x in tensors.items() if k != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t | {"layer1.0.se.weight": np.ones(3)},
            r"layer1.0.se.weight \(3,\)",
        ),
        (
            lambda t: drop(t, "layer3.1.conv2.weight"),
            "stage3/block1/conv2/kernel is mi",
        ),
        (
            lambda t: t | {"bn1.bias": np.ones(5, np.float32)},
            r"stem/norm/bias: expected shape \(64,\), found \(5,\)",
        ),
        (
            lambda t: {k: x for k, x in t.items() if not k.startswith("layer4")},
            r"expected a ResNet .* \(2, 2, 2, 0\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, message, tmp_path):
    model = create_model("resnet18", num_classes=7)
    variables = random_variables(model, (64, 64, 3))
    tensors = change(source_tensors())
    safetensors.numpy.save_file(tensors, tmp_path / "in.safetensors")
    out = tmp_path / "out.safetensors"

    def port_and_load():
        port.port("torchvision", tmp_path / "in.safetensors", out)
        model = ConfigDict({"name": "resnet18", "pretrained": str(out)})
        port.load_ported(model, variables, jnp.zeros((1, 64, 64, 3)))

    with pytest.raises(UserError, match=message):
        port_and_load()


def test_skipped_tensors_are_left_out():
    tensors = source_tensors() | {"layer1.0.se.weight": np.ones(3)}
    name, variables = torchvision.convert(tensors, (r".*\.se\..*",))
    assert name == "resnet18"
    assert "se" not in variables["params"]["stage1"]["block0"]


def test_files_that_are_none(tmp_path):
    whole = tmp_path / "in.safetensors"
    safetensors.numpy.save_file(source_tensors(), whole)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1000])
    other = tmp_path / "x.onnx"
    other.write_bytes(b"x")
    for path, message in (
        (cut, "not a whole safetensors file"),
        (other, "expected a file .safetensors"),
        (tmp_path / "no.safetensors", "is missing"),
    ):
        with pytest.raises(UserError, match=message):
            read_tensors(path)
    with pytest.raises(UserError, match="port it first"):
        read_ported(whole)


def test_a_pickle_that_is_no_tensor_is_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"weights": pathlib.Path("x")}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="not a whole PyTorch file of tensors"):
        read_tensors(tmp_path / "bad.pth")


def test_without_pytorch_its_files_name_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    (tmp_path / "x.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"deepfer_jax\[parity\]"):
        read_tensors(tmp_path / "x.pth")


def test_gray_kernel_is_exact_where_channels_are_normalised_alike(tmp_path):
    safetensors.numpy.save_file(source_tensors(), tmp_path / "in.safetensors")
    out = tmp_path / "out.safetensors"
    port.port("torchvision", tmp_path / "in.safetensors", out)
    rgb = create_model("resnet18", num_classes=10)
    gray = np.random.default_rng(0).normal(size=(2, 64, 64, 1)).astype(np.float32)
    config = ConfigDict({"name": "resnet18", "pretrained": str(out)})
    color = gray.repeat(3, -1)
    of_rgb = port.load_ported(config, random_variables(rgb, color.shape[1:]), color)
    of_gray = port.load_ported(config, random_variables(rgb, gray.shape[1:]), gray)

    @jax.jit
    def stage1(variables, images):
        _, found = rgb.apply(
            variables, images, capture_intermediates=lambda m, _: m.name == "stage1"
        )
        return found["intermediates"]["stage1"]["__call__"][0]

    with jax.default_matmul_precision("highest"):
        same = stage1(of_rgb, gray.repeat(3, -1))
        difference = np.abs(stage1(of_gray, gray) - same).max()
        assert difference < 1e-4 * np.abs(same).max()
        # A channel that is normalised otherwise is lost in the sum.
        other = gray.repeat(3, -1) * np.array([1.0, 0.5, 2.0], np.float32)
        difference = np.abs(stage1(of_rgb, other) - same).max()
        assert difference > 1e-2 * np.abs(same).max()
