"""pretrained: parity with PyTorch and dlib, round trips, errors name the tensor."""

import importlib.util
import pathlib
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from ml_collections import ConfigDict
from PIL import Image

from deepfer_jax.errors import UserError
from deepfer_jax.models import create_model
from deepfer_jax.models.dlib_resnet import MEAN, STD, dlib_resnet29
from deepfer_jax.network import load_network
from deepfer_jax.pretrained import dlib, port, torchvision
from deepfer_jax.pretrained.tensors import read_ported, read_tensors
from deepfer_jax.train import train_and_evaluate

BLOCKS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}


def torch_resnet(torch, bottleneck, stage_blocks, num_classes):
    """torchvision's ResNet, written again: same structure and names of parameters."""
    t = torch.nn
    expansion = 4 if bottleneck else 1

    def conv(inputs, outputs, kernel, stride=1):
        return t.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)

    class Block(t.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            outputs = expansion * width
            # Channels, kernel and stride of each convolution.
            basic = [(width, 3, stride), (width, 3, 1)]
            layers = [(width, 1, 1), (width, 3, stride), (outputs, 1, 1)]
            self.layers = layers if bottleneck else basic
            channels = inputs
            for i, (out, kernel, step) in enumerate(self.layers, start=1):
                setattr(self, f"conv{i}", conv(channels, out, kernel, step))
                setattr(self, f"bn{i}", t.BatchNorm2d(out))
                channels = out
            self.downsample = None
            if stride != 1 or inputs != outputs:
                self.downsample = t.Sequential(
                    conv(inputs, outputs, 1, stride), t.BatchNorm2d(outputs)
                )

        def forward(self, x):
            y = x
            for i in range(1, len(self.layers) + 1):
                y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
                y = y.relu() if i < len(self.layers) else y
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = conv(3, 64, 7, 2), t.BatchNorm2d(64)
            self.maxpool = t.MaxPool2d(3, 2, 1)
            channels = 64
            for i, num_blocks in enumerate(stage_blocks):
                blocks = []
                for j in range(num_blocks):
                    stride = 2 if i > 0 and j == 0 else 1
                    blocks.append(Block(channels, 64 * 2**i, stride))
                    channels = expansion * 64 * 2**i
                setattr(self, f"layer{i + 1}", t.Sequential(*blocks))
            self.fc = t.Linear(channels, num_classes)

        def forward(self, x):
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    return Net().eval()


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


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", BLOCKS)
def test_parity_with_pytorch_of_logits_and_stages(name, suffix, tmp_path):
    torch, net = torch_net(name)
    state = net.state_dict()
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, file)
    else:
        import safetensors.torch

        safetensors.torch.save_file(state, file)
    port.port("torchvision", file, tmp_path / "ported.safetensors")
    variables, metadata = read_ported(tmp_path / "ported.safetensors")
    assert metadata["architecture"] == name
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
    variables = model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
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
    key = jax.random.key(0)
    config = ConfigDict({"name": "resnet18", "pretrained": str(out)})
    color = gray.repeat(3, -1)
    of_rgb = port.load_ported(config, rgb.init(key, color), color)
    of_gray = port.load_ported(config, rgb.init(key, gray), gray)

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


# dlib


def dat_number(n):
    body = n.to_bytes((n.bit_length() + 7) // 8 or 1, "little")
    return bytes([len(body)]) + body


def dat_tensor(values, *shape):
    return dat_number(2) + b"".join(map(dat_number, shape)) + values.tobytes()


def write_dat(path, seed=0):
    """A file of dlib's layout with random values; returns these, in their order."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(0, 0.05, shape).astype("<f4")

    data, layers, channels = [b"\x01\x01\x01\x0dloss_metric_2"], [], 3
    widths = [32, *[32] * 6, *[64] * 8, *[128] * 6, *[256] * 6, *[256] * 2]
    for i, width in enumerate(widths):
        size = 7 if i == 0 else 3
        kernel, bias = draw(width, channels, size, size), draw(width)
        scale, shift = 1 + draw(width), draw(width)
        values = np.concatenate([kernel.ravel(), bias])
        data += [
            b"\x01\x05con_4",
            dat_tensor(values, len(values), 1, 1, 1),
            b"\x01\x07",
        ]
        values = np.concatenate([scale, shift])
        data += [b"\x01\x07affine_", dat_tensor(values, 2 * width, 1, 1, 1), b"\x00"]
        layers.append((kernel, bias, scale, shift))
        channels = width
    head = draw(256, 128)
    data += [b"\x01\x04fc_2", dat_number(128), dat_number(256)]
    data += [dat_tensor(head, 256, 128, 1, 1), b"end"]
    path.write_bytes(b"".join(data))
    return layers, head


def test_the_dat_file_is_read_layer_by_layer(tmp_path):
    layers, head = write_dat(tmp_path / "net.dat")
    metadata = port.port("dlib", tmp_path / "net.dat", tmp_path / "out.safetensors")
    assert metadata["licence"] == "CC0-1.0"
    variables, _ = read_ported(tmp_path / "out.safetensors")
    params = variables["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == 5_614_592 + 128
    np.testing.assert_array_equal(params["head"]["kernel"], head)
    kernel, bias, scale, shift = layers[1 + 2 * 3 + 1]  # the second of stage2/block1
    block = params["stage2"]["block1"]
    np.testing.assert_array_equal(
        block["conv2"]["kernel"], kernel.transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(block["conv2"]["bias"], bias)
    np.testing.assert_array_equal(block["norm2"]["scale"], scale)
    np.testing.assert_array_equal(block["norm2"]["bias"], shift)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:-2000], "head: the file is cut off"),
        (lambda data: data[: len(data) // 2], "stage4/block.*/conv.*cut off"),
        (lambda data: b"", "no layer 'con_4' for stem/conv"),
        (lambda data: data.replace(b"con_4", b"con_3"), "no layer 'con_4'"),
        (
            lambda data: data[5000:],
            r"stem/conv: expected 4736 values, found .*\[9248, ",
        ),
    ],
)
def test_other_dat_files_are_refused_by_their_layer(tmp_path, spoil, message):
    write_dat(tmp_path / "net.dat")
    path = tmp_path / "bad.dat"
    path.write_bytes(spoil((tmp_path / "net.dat").read_bytes()))
    with pytest.raises(UserError, match=message):
        dlib.convert(path)


def normalised(images):
    return ((images / 255.0 - np.array(MEAN)) / np.array(STD)).astype(np.float32)


def test_affines_become_batch_normalisation_of_the_same_function(tmp_path):
    write_dat(tmp_path / "net.dat")
    variables = dlib.convert(tmp_path / "net.dat")
    images = normalised(np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3)))
    affine = dlib_resnet29(num_classes=128, norm="affine")
    batch = dlib_resnet29(num_classes=128, norm="batch")
    turned = dlib.to_batch_norm(variables, images)
    fresh = batch.init(jax.random.key(0), images)
    assert jax.tree.map(jnp.shape, turned) == jax.tree.map(jnp.shape, fresh)
    expected = affine.apply(variables, images)
    np.testing.assert_allclose(
        batch.apply(turned, images), expected, rtol=1e-3, atol=1e-4
    )
    # In training too, on the images that were measured.
    trained, _ = batch.apply(turned, images, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(trained, expected, rtol=1e-2, atol=1e-3)


def test_dlib_reads_gray_images_as_it_reads_them_in_three_channels(tmp_path):
    write_dat(tmp_path / "net.dat")
    variables = dlib.convert(tmp_path / "net.dat")
    model = dlib_resnet29(num_classes=128, norm="affine")
    gray = np.random.default_rng(0).uniform(0, 255, (2, 100, 100, 1))
    expected = model.apply(variables, normalised(gray.repeat(3, -1)))
    found = model.apply(
        dlib.to_gray(variables, 0.4, 0.25),
        ((gray / 255 - 0.4) / 0.25).astype(np.float32),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [31, 48, 96, 103])
def test_dlib_trains_on_small_images(size):
    """No stage is empty: dlib's own would be, in stage 5, below 103 pixels."""
    model = dlib_resnet29(num_classes=7)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, size, size, 1)))
    variables = jax.jit(model.init)(jax.random.key(0), images)

    def loss(params):
        variables_ = variables | {"params": params}
        logits, _ = model.apply(variables_, images, train=True, mutable=["batch_stats"])
        return jnp.square(logits).sum()

    for gradient in jax.tree.leaves(jax.jit(jax.grad(loss))(variables["params"])):
        assert np.isfinite(gradient).all()


def dlib_file():
    """The file of the PyPI packages, found without importing them."""
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or importlib.util.find_spec("dlib") is None:
        pytest.skip("needs the extra [parity]")
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "models"
    return folder / "dlib_face_recognition_resnet_model_v1.dat"


def photos():
    import matplotlib.cbook

    folder = pathlib.Path(matplotlib.cbook.__file__).parent / "mpl-data/sample_data"
    with Image.open(folder / "grace_hopper.jpg") as image:
        photo = image.convert("RGB")
    boxes = [(150, 50, 400, 300), (100, 0, 500, 400), (200, 120, 350, 270)]
    faces = [photo.crop(box).resize((150, 150)) for box in boxes]
    astronaut = Image.fromarray(pytest.importorskip("skimage.data").astronaut())
    faces.append(astronaut.crop((150, 30, 300, 180)))
    return np.stack([np.asarray(face) for face in faces])


def test_parity_with_dlib():
    path = dlib_file()
    import dlib as reference

    net = reference.face_recognition_model_v1(str(path))
    faces = photos()
    expected = np.stack([net.compute_face_descriptor(face) for face in faces])
    model = dlib_resnet29(num_classes=128, norm="affine")
    with jax.default_matmul_precision("highest"):
        found = jax.jit(model.apply)(dlib.convert(path), normalised(faces))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_script_says_what_it_ported(run_python, tmp_path):
    write_dat(tmp_path / "net.dat")
    arguments = ("--source", "dlib", "--file", tmp_path / "net.dat", "--out")
    out = run_python("scripts/port_weights.py", *arguments, tmp_path / "x.safetensors")
    assert re.search(r"licence +CC0-1.0", out.stdout)
    assert re.search(r"sha256 +[0-9a-f]{64}", out.stdout)
    failed = run_python(
        "scripts/port_weights.py", *arguments, tmp_path / "no/x", check=False
    )
    assert failed.returncode == 1
    assert "no such folder" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_ported_backbone_is_fine_tuned(small_data_dir, tmp_path):
    """From dlib's file to a frozen backbone under a new head, sizes and colours too."""
    from configs import fer2013_dlib_finetune

    layers, _ = write_dat(tmp_path / "net.dat")
    port.port("dlib", tmp_path / "net.dat", tmp_path / "net.safetensors")
    config = fer2013_dlib_finetune.get_config()
    config.dataset.name = "synthetic_faces/small"
    config.dataset.data_dir = small_data_dir
    config.dataset.validation_split = "validation"
    config.model.pretrained = str(tmp_path / "net.safetensors")
    config.model.input_size = 72
    config.optimizer.groups = (("head/.*", 1.0), (".*", 0.0))
    config.train.batch_size, config.train.num_epochs = 140, 1
    train_and_evaluate(config, tmp_path / "run")
    network = load_network(tmp_path / "run")
    params = network.variables["params"]
    np.testing.assert_array_equal(
        params["stage1"]["block1"]["conv1"]["kernel"],
        layers[1][0].transpose(2, 3, 1, 0),
    )
    assert params["stem"]["conv"]["kernel"].shape == (7, 7, 1, 32)
    assert params["head"]["kernel"].shape == (256, 7)
    assert network.metadata["image_shape"] == [48, 48, 1]
    config.model.init_from = str(tmp_path / "run")
    with pytest.raises(UserError, match="init_from or pretrained, not both"):
        train_and_evaluate(config, tmp_path / "other")
    config.model.init_from, config.model.name = "", "resnet18"
    config.model.options = {}
    with pytest.raises(
        UserError, match=r"weights of 'dlib_resnet29', but .* 'resnet18'"
    ):
        train_and_evaluate(config, tmp_path / "other")
