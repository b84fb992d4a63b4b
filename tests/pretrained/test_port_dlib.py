"""pretrained.dlib: the file layer by layer, parity with dlib, fine-tuning from it."""

import functools
import importlib.util
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from deepfer_jax.errors import UserError
from deepfer_jax.models.dlib_resnet import MEAN, STD, dlib_resnet29
from deepfer_jax.pretrained import dlib, port
from deepfer_jax.pretrained.statistics import measure_statistics
from deepfer_jax.pretrained.tensors import read_ported
from deepfer_jax.runs.trained import load_trained
from deepfer_jax.training.train import train_and_evaluate
from tests import photos
from tests.variables import random_variables


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
    # Batch normalisation of variance 1, to which its epsilon is added.
    found = block["norm2"]["scale"] / np.sqrt(np.float32(1 + 1e-5))
    np.testing.assert_allclose(found, scale, rtol=1e-6)
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


def test_statistics_are_measured_and_the_function_stays(tmp_path):
    write_dat(tmp_path / "net.dat")
    variables = dlib.convert(tmp_path / "net.dat")
    images = normalised(np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3)))
    model = dlib_resnet29(num_classes=128)
    turned = measure_statistics(model, variables, images)
    fresh = jax.eval_shape(model.init, jax.random.key(0), images)
    assert jax.tree.map(jnp.shape, turned) == jax.tree.map(jnp.shape, fresh)
    apply = jax.jit(model.apply)
    expected = apply(variables, images)
    np.testing.assert_allclose(apply(turned, images), expected, rtol=1e-3, atol=1e-4)
    # In training too, on the images that were measured.
    train = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    trained, _ = jax.jit(train)(turned, images)
    np.testing.assert_allclose(trained, expected, rtol=1e-2, atol=1e-3)


def test_dlib_reads_gray_images_as_it_reads_them_in_three_channels(tmp_path):
    write_dat(tmp_path / "net.dat")
    variables = dlib.convert(tmp_path / "net.dat")
    model = dlib_resnet29(num_classes=128)
    gray = np.random.default_rng(0).uniform(0, 255, (2, 100, 100, 1))
    apply = jax.jit(model.apply)
    expected = apply(variables, normalised(gray.repeat(3, -1)))
    found = apply(
        dlib.to_gray(variables, 0.4, 0.25),
        ((gray / 255 - 0.4) / 0.25).astype(np.float32),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [31, 48, 96, 103])
def test_dlib_trains_on_small_images(size):
    """No stage is empty: dlib's own would be, in stage 5, below 103 pixels."""
    model = dlib_resnet29(num_classes=7)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, size, size, 1)))
    variables = random_variables(model, images.shape[1:])

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


def cut_out_faces():
    hopper, astronaut = (
        Image.fromarray(photos.photo(name)) for name in ("grace_hopper", "astronaut")
    )
    boxes = [(150, 50, 400, 300), (100, 0, 500, 400), (200, 120, 350, 270)]
    faces = [hopper.crop(box).resize((150, 150)) for box in boxes]
    return np.stack([*faces, astronaut.crop((150, 30, 300, 180))])


def test_parity_with_dlib():
    path = dlib_file()
    import dlib as reference

    net = reference.face_recognition_model_v1(str(path))
    faces = cut_out_faces()
    expected = np.stack([net.compute_face_descriptor(face) for face in faces])
    model = dlib_resnet29(num_classes=128)
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
    trained = load_trained(tmp_path / "run")
    params = trained.variables["params"]
    np.testing.assert_array_equal(
        params["stage1"]["block1"]["conv1"]["kernel"],
        layers[1][0].transpose(2, 3, 1, 0),
    )
    assert params["stem"]["conv"]["kernel"].shape == (7, 7, 1, 32)
    assert params["head"]["kernel"].shape == (256, 7)
    assert trained.metadata["image_shape"] == [48, 48, 1]
    config.model.init_from = str(tmp_path / "run")
    with pytest.raises(UserError, match="init_from or pretrained, not both"):
        train_and_evaluate(config, tmp_path / "other")
    config.model.init_from, config.model.name = "", "resnet18"
    config.model.options = {}
    with pytest.raises(
        UserError, match=r"weights of 'dlib_resnet29', but .* 'resnet18'"
    ):
        train_and_evaluate(config, tmp_path / "other")
