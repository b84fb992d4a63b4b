"""pretrained.faceres: the TensorFlow.js graph, parity with PyTorch, fine-tuning."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.errors import UserError
from deepfer_jax.models import create_model
from deepfer_jax.pretrained import faceres, port
from deepfer_jax.pretrained.statistics import measure_statistics
from deepfer_jax.pretrained.tensors import read_ported
from deepfer_jax.runs.trained import load_trained
from deepfer_jax.training.train import train_and_evaluate

# Channels that come out of each of the 13 blocks, and which halve the image.
WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
HALVING = (2, 4, 6, 12)
# Of blue, green and red, in this order.
MEANS = (103.939, 116.779, 123.68)


def draw_tensors(seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape, scale=1.0):
        return rng.normal(0, scale, shape).astype(np.float32)

    tensors = {
        "age_pred/kernel": draw(4, 2),
        "conv1/convolution/merged_input": draw(3, 3, 3, 32, scale=0.005),
        "conv1_bn/batchnorm_1/sub": draw(32) + 1,
        "conv1_relu/Const_1": np.zeros((), np.float32),
    }
    inputs = 32
    for i, width in enumerate(WIDTHS, 1):
        dw, pw = f"conv_dw_{i}", f"conv_pw_{i}"
        tensors[f"{dw}/depthwise_kernel"] = draw(3, 3, inputs, 1, scale=0.6)
        tensors[f"{dw}_bn/batchnorm_1/mul"] = 1 + 0.1 * draw(inputs)
        tensors[f"{dw}_bn/batchnorm_1/sub"] = draw(inputs, scale=0.2)
        kernel = draw(1, 1, inputs, width, scale=2 * inputs**-0.5)
        tensors[f"{pw}/convolution/merged_input"] = kernel
        tensors[f"{pw}_bn/batchnorm_1/sub"] = draw(width, scale=0.2)
        inputs = width
    return tensors


def write_graph(folder, tensors, dtype="float32"):
    specs = []
    for name, values in tensors.items():
        spec = {"name": name, "shape": list(values.shape), "dtype": "float32"}
        if dtype != "float32":
            spec["quantization"] = {"dtype": dtype, "original_dtype": "float32"}
        specs.append(spec)
    manifest = [{"paths": ["net.bin"], "weights": specs}]
    path = folder / "net.json"
    path.write_text(json.dumps({"weightsManifest": manifest}))
    (folder / "net.bin").write_bytes(
        b"".join(values.astype(dtype).tobytes() for values in tensors.values())
    )
    return path


def run_in_torch(tensors, images):
    """What the graph computes, as its nodes say, up to the average over the image."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = images[..., ::-1] - np.array(MEANS, np.float32)
    x = torch.tensor(x.transpose(0, 3, 1, 2).copy())

    def get(name):
        return torch.tensor(tensors[name])

    def convolve(x, kernel, stride, groups=1):  # SAME, of even sizes
        x = functional.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
        return functional.conv2d(x, kernel, stride=stride, groups=groups)

    def add(x, name):
        return (x + get(name)[:, None, None]).clamp(0, 6)

    kernel = get("conv1/convolution/merged_input").permute(3, 2, 0, 1)
    x = add(convolve(x, kernel, 2), "conv1_bn/batchnorm_1/sub")
    for i in range(1, 14):
        kernel = get(f"conv_dw_{i}/depthwise_kernel").permute(2, 3, 0, 1)
        x = convolve(x, kernel, 2 if i in HALVING else 1, groups=len(kernel))
        x = x * get(f"conv_dw_{i}_bn/batchnorm_1/mul")[:, None, None]
        x = add(x, f"conv_dw_{i}_bn/batchnorm_1/sub")
        kernel = get(f"conv_pw_{i}/convolution/merged_input").permute(3, 2, 0, 1)
        x = add(functional.conv2d(x, kernel), f"conv_pw_{i}_bn/batchnorm_1/sub")
    return x.mean((2, 3)).numpy()


def apply_backbone(variables, images):
    """The averages before the head, float32 [batch, 1024]."""
    head = {"kernel": jnp.eye(1024), "bias": jnp.zeros(1024)}
    params = variables["params"] | {"head": head}
    model = create_model("mobilenet", num_classes=1024)
    with jax.default_matmul_precision("highest"):
        return jax.jit(model.apply)(variables | {"params": params}, images)


def faces(size=64, channels=3):
    """Patches of four pixels: what is finer averages out in a random network."""
    patches = np.random.default_rng(1).uniform(
        0, 255, (3, size // 4, size // 4, channels)
    )
    return patches.repeat(4, 1).repeat(4, 2).astype(np.float32)


def normalised(images):
    return jnp.asarray(images / 255 - np.array(faceres.MEAN), jnp.float32)


def test_parity_with_the_graph_in_pytorch(tmp_path):
    tensors = draw_tensors()
    metadata = port.port(
        "faceres", write_graph(tmp_path, tensors), tmp_path / "out.safetensors"
    )
    assert metadata["architecture"] == "mobilenet"
    assert metadata["licence"] == "Apache-2.0"
    variables, _ = read_ported(tmp_path / "out.safetensors")
    images = faces()
    expected = run_in_torch(tensors, images)
    assert expected.std(0).max() > 0.05  # it says something of these images
    found = apply_backbone(variables, normalised(images))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_halves_are_read_as_numbers(tmp_path):
    tensors = draw_tensors()
    read = faceres.read_graph(write_graph(tmp_path, tensors, "float16"))
    assert read.keys() == tensors.keys()
    for name, values in read.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, tensors[name].astype(np.float16))


def test_statistics_are_measured_and_the_function_stays(tmp_path):
    variables = faceres.convert(write_graph(tmp_path, draw_tensors()))
    images = normalised(faces())
    model = create_model("mobilenet", num_classes=1024)
    head = {"kernel": jnp.eye(1024), "bias": jnp.zeros(1024)}
    variables["params"]["head"] = head
    measured = measure_statistics(model, variables, images)
    expected = apply_backbone(variables, images)
    found = apply_backbone(measured, images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    # In training too, where the statistics are those of these images.
    trained, _ = model.apply(measured, images, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(trained, expected, rtol=0, atol=1e-3)
    # Of the first convolution by hand.
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    first = jax.lax.conv_general_dilated(
        images, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    norm = measured["batch_stats"]["stem"]["norm"]
    np.testing.assert_allclose(norm["mean"], first.mean((0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(norm["var"], first.var((0, 1, 2)), rtol=1e-3)


def test_gray_faces_are_read_as_in_three_channels(tmp_path):
    variables = faceres.convert(write_graph(tmp_path, draw_tensors()))
    gray = faces(channels=1)
    turned = faceres.to_gray(variables, 0.4, 0.25)["params"]["stem"]
    kernels = turned["conv"]["kernel"], variables["params"]["stem"]["conv"]["kernel"]
    inputs = (gray / 255 - 0.4) / 0.25, normalised(gray.repeat(3, -1))
    norms = turned["norm"], variables["params"]["stem"]["norm"]
    one, three = (
        np.asarray(norm["scale"])
        / np.sqrt(1.001)
        * np.asarray(
            jax.lax.conv_general_dilated(
                x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        )
        + np.asarray(norm["bias"])
        for x, kernel, norm in zip(inputs, kernels, norms, strict=True)
    )
    np.testing.assert_allclose(one, three, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "net.bin").unlink(), "net.bin: No such file"),
        (
            lambda folder: (folder / "net.bin").write_bytes(b"1234"),
            "age_pred/kernel: its .bin is cut off",
        ),
        (
            lambda folder: (folder / "net.json").write_text("{}"),
            "not the .json of a TensorFlow.js graph model",
        ),
        (
            lambda folder: write_graph(folder, {"other": np.zeros(3, np.float32)}),
            "conv1/convolution/merged_input: expected .*, found nothing",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, spoil, message):
    path = write_graph(tmp_path, draw_tensors())
    spoil(tmp_path)
    with pytest.raises(UserError, match=message):
        faceres.convert(path)


def test_it_is_fine_tuned(small_data_dir, tmp_path):
    from configs import fer2013_mobilenet

    tensors = draw_tensors()
    port.port("faceres", write_graph(tmp_path, tensors), tmp_path / "net.safetensors")
    config = fer2013_mobilenet.get_config()
    config.dataset.name = "synthetic_faces/small"
    config.dataset.data_dir = small_data_dir
    config.dataset.validation_split = "validation"
    config.model.pretrained = str(tmp_path / "net.safetensors")
    config.model.input_size = 64
    config.optimizer.groups = (("head/.*", 1.0), (".*", 0.0))
    config.optimizer.warmup_epochs = 0.5
    config.train.batch_size, config.train.num_epochs = 140, 1
    train_and_evaluate(config, tmp_path / "run")
    params = load_trained(tmp_path / "run").variables["params"]
    np.testing.assert_array_equal(
        params["stage1"]["block1"]["depthwise"]["kernel"],
        tensors["conv_dw_1/depthwise_kernel"].swapaxes(2, 3),
    )
    assert params["stem"]["conv"]["kernel"].shape == (3, 3, 1, 32)
    assert params["head"]["kernel"].shape == (1024, 7)
