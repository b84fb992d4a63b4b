"""BlazeFace: MediaPipe's two face detectors as Flax networks.

    model = BLAZEFACES["short"]
    boxes, logits = model.network.apply(variables, images)     # [N, 896, 16], [N, 896]

Bazarevsky et al. 2019 (arXiv:1907.05047); the networks are those of the npm package
@mediapipe/face_detection (Apache-2.0). `short` looks for faces within two metres of a
camera in 128x128 pixels, `full` for smaller ones too, in 192x192. In frames of 640x480
the first finds faces from about 100 pixels on, the second from about 50; it takes two
and a half times as long.

Depthwise convolutions are sums of shifted products: on a CPU, XLA's own are some 20
times slower.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from deepfer_jax.models.convolution import convolve_as_product

# A fifth of the time of XLA's own on a CPU, for the three channels of an image.
_Stem = functools.partial(
    nn.Conv, strides=2, conv_general_dilated=convolve_as_product, name="stem"
)


def pad(x: jax.Array, stride: int, num_channels: int = 0) -> jax.Array:
    """Zeros around images for a 3x3 window, as TensorFlow's SAME, and behind them.

    Args:
      x: [N, H, W, C].
      stride: of the window.
      num_channels: of zeros that are added.
    """
    edges = jax.lax.padtype_to_pads(x.shape[1:3], (3, 3), (stride,) * 2, "SAME")
    return jnp.pad(x, ((0, 0), *edges, (0, num_channels)))


class DepthwiseConv(nn.Module):
    """A 3x3 convolution of each channel by itself, within images that are padded."""

    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, height, width, channels = x.shape
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (3, 3, 1, channels)
        )
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        stride = self.stride
        rows, columns = (height - 3) // stride + 1, (width - 3) // stride + 1
        y = bias[None, None, None]
        for i in range(3):
            for j in range(3):
                window = x[:, i::stride, j::stride][:, :rows, :columns]
                y = y + window * kernel[i, j, 0][None, None, None]
        return y


class Block(nn.Module):
    """A depthwise and a 1x1 convolution, or two such pairs, beside a shortcut.

    Attributes:
      features: channels that come out; the shortcut is filled up with zeros.
      stride: of the first convolution and of the shortcut's max pool.
      bottleneck: channels between two pairs; 0 for one pair.
    """

    features: int
    stride: int = 1
    bottleneck: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        _, height, width, channels = x.shape
        # For both ways at once: what is padded twice is compiled and computed twice.
        padded = pad(x, self.stride, self.features - channels)
        y = DepthwiseConv(self.stride, name="depthwise1")(padded[..., :channels])
        if self.bottleneck:
            y = nn.relu(nn.Conv(self.bottleneck, (1, 1), name="conv1")(y))
            y = DepthwiseConv(name="depthwise2")(pad(y, 1))
            y = nn.Conv(self.features, (1, 1), name="conv2")(y)
        else:
            y = nn.Conv(self.features, (1, 1), name="conv1")(y)
        first = 2 - self.stride  # SAME of even sizes: to both sides, or to the end
        x = padded[:, first : first + height, first : first + width]
        if self.stride == 2:
            x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        return nn.relu(x + y)


class Double(nn.Module):
    """Twice the height and width, linearly."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        shape = (batch, 2 * height, 2 * width, channels)
        return jax.image.resize(x, shape, "linear", antialias=False)


class Stage(nn.Module):
    """Blocks in a row."""

    blocks: Sequence[tuple[int, int, int]]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, block in enumerate(self.blocks, start=1):
            x = Block(*block, name=f"block{i}")(x)
        return x


def _predict(
    levels: Sequence[tuple[str, jax.Array, int]],
) -> tuple[jax.Array, jax.Array]:
    """Boxes and logits of (name, features, anchors a pixel), over all levels."""
    outputs = []
    for what, size in (("classifier", 1), ("regressor", 16)):
        parts = [
            nn.Conv(num * size, (1, 1), name=f"{what}{name}")(x).reshape(
                x.shape[0], -1, size
            )
            for name, x, num in levels
        ]
        outputs.append(jnp.concatenate(parts, axis=1))
    logits, boxes = outputs
    return boxes, logits[..., 0]


class ShortRange(nn.Module):
    """Two levels: 16x16 pixels with 2 anchors each, 8x8 with 6."""

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """images are float32 [N, 128, 128, 3] in [-1, 1]."""
        x = nn.relu(_Stem(24, (5, 5))(images))
        fine = [(24, 1), (28, 1), (32, 2), (36, 1), (42, 1), (48, 2)]
        fine += [(56, 1), (64, 1), (72, 1), (80, 1), (88, 1)]
        x = Stage([(*block, 0) for block in fine], name="fine")(x)
        coarse = [(96, 2, 0), *[(96, 1, 0)] * 4]
        y = Stage(coarse, name="coarse")(x)
        return _predict([("_fine", x, 2), ("_coarse", y, 6)])


class FullRange(nn.Module):
    """A feature pyramid with one level of 48x48 pixels, one anchor each."""

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """images are float32 [N, 192, 192, 3] in [-1, 1]."""
        x = nn.relu(_Stem(32, (3, 3))(images))
        stages = [
            [(32, 1, 8), (32, 1, 8), (48, 2, 12), (48, 1, 12), (64, 1, 16)],
            [(96, 2, 24), (128, 1, 32), (128, 1, 32)],
            [(144, 2, 36), (192, 1, 48), (256, 1, 64)],
            [(384, 2, 96), *[(384, 1, 96)] * 3],
        ]
        levels = []
        for i, blocks in enumerate(stages, start=1):
            x = Stage(blocks, name=f"down{i}")(x)
            levels.append(x)
        for i, (features, num_blocks) in enumerate([(96, 2), (64, 2), (48, 1)], 1):
            x = nn.relu(nn.Conv(features, (1, 1), name=f"from_below{i}")(x))
            x = Double()(x)
            side = nn.Conv(features, (1, 1), name=f"from_side{i}")(levels[-1 - i])
            blocks = [(features, 1, features // 2)] * num_blocks
            x = Stage(blocks, name=f"up{i}")(nn.relu(side) + x)
        return _predict([("", x, 1)])


class BlazeFace(NamedTuple):
    """A detector's network and what its numbers mean.

    size is the side of its images in pixels, by which boxes are scaled; levels are
    (stride in pixels, anchors a pixel of that level); below min_score a candidate is no
    face: between photographs of faces that are large enough and of cats and coffee.
    """

    network: nn.Module
    size: int
    levels: tuple[tuple[int, int], ...]
    min_score: float

    def anchors(self) -> np.ndarray:
        """Centres of all anchors, x and y in [0, 1]: float32 [anchors, 2]."""
        parts = []
        for stride, num in self.levels:
            side = self.size // stride
            steps = (np.arange(side, dtype=np.float32) + 0.5) / side
            y, x = np.meshgrid(steps, steps, indexing="ij")
            parts.append(np.stack([x, y], -1).reshape(-1, 2).repeat(num, axis=0))
        return np.concatenate(parts)


BLAZEFACES = {
    "short": BlazeFace(ShortRange(), 128, ((8, 2), (16, 6)), 0.65),
    "full": BlazeFace(FullRange(), 192, ((4, 1),), 0.5),
}
