"""dlib's face recognition ResNet-29, as a backbone: 5.6 M parameters, any input size.

    model = dlib_resnet29(num_classes=7)

King 2017, "High Quality Face Recognition with Deep Metric Learning" (dlib.net, CC0). It
differs from He et al.'s: convolutions and pools with stride 2 do not pad; the shortcut
of a block that makes the image smaller is a 2x2 average pool, filled with zeros in
channels and in space up to the larger of the two. dlib publishes its batch
normalisation folded into a scale and a bias a channel (pretrained.dlib unfolds it).

Parameter paths: `stem/conv`, `stem/norm`, `stage1/block1/conv1`, `.../norm1`, `head`;
stages have 32, 64, 128, 256 and 256 channels.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepfer_jax.models.convolution import Conv
from deepfer_jax.models.layers import (
    ConvNorm,
    classify,
    create_norm,
    max_pool,
    run_stages,
)

MEAN = (122.782 / 255, 117.001 / 255, 104.298 / 255)
STD = (256 / 255,) * 3
EPSILON = 1e-5


def _pad_to(x: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Fills with zeros at the end of height, width and channels."""
    padding = [(0, 0), *((0, n - m) for n, m in zip(shape, x.shape[1:], strict=True))]
    return jnp.pad(x, padding)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters."""

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    drop_path: Callable[[float], nn.Module]
    drop_rate: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # Filled with zeros where it is smaller than the window (images below 103
        # pixels, in stage 5), so that no branch is empty.
        padding = 1 if self.stride == 1 else [(0, max(0, 3 - n)) for n in x.shape[1:3]]
        y = self.conv(
            self.features, (3, 3), strides=self.stride, padding=padding, name="conv1"
        )(x)
        y = nn.relu(self.norm(name="norm1")(y))
        y = self.conv(self.features, (3, 3), padding=1, name="conv2")(y)
        y = self.drop_path(self.drop_rate)(self.norm(name="norm2")(y))
        if self.stride == 2:
            x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
        shape = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
        return nn.relu(_pad_to(x, shape) + _pad_to(y, shape))


class DlibResNet(nn.Module):
    """dlib's ResNet: a stem, five stages, global average pooling and a classifier.

    Attributes:
      num_classes: number of logits.
      stage_features: channels of each stage; all but the first halve the image.
      stage_blocks: blocks of each stage.
      dropout_rate: before the classifier.
      stochastic_depth: probability of leaving out the last block's branch in training;
        it falls in a line to the first block's.
      dtype: of computation; parameters, statistics and logits are float32.
      bn_axis_name: axis over which batch statistics are averaged in training.
      frozen: which layers, by path, keep their batch statistics in training.
    """

    num_classes: int
    stage_features: Sequence[int]
    stage_blocks: Sequence[int]
    dropout_rate: float = 0.0
    stochastic_depth: float = 0.0
    dtype: Any = jnp.float32
    bn_axis_name: str | None = None
    frozen: Callable[[str], bool] | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits, float32 [batch, num_classes].

        Args:
          images: float [batch, height, width, channels], normalised by MEAN and STD;
            at least 31 pixels high and wide, made for 150.
          train: use and update batch statistics, and drop out (needs the "dropout" key
            where `dropout_rate` is not 0).
        """
        conv = functools.partial(Conv, dtype=self.dtype)
        norm = create_norm(self, train, epsilon=EPSILON)
        block = functools.partial(Block, conv=conv, norm=norm)
        x = images.astype(self.dtype)
        x = ConvNorm(
            self.stage_features[0],
            (7, 7),
            conv,
            norm,
            stride=2,
            padding=0,
            name="stem",
        )(x)
        x = max_pool(nn.relu(x))
        x = run_stages(self, x, block, self.stage_features, train)
        return classify(self, x, train)


dlib_resnet29 = functools.partial(
    DlibResNet,
    stage_features=(32, 64, 128, 256, 256),
    stage_blocks=(3, 4, 3, 3, 1),
)
