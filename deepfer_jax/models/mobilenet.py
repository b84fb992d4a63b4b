"""MobileNet (v1), as a backbone: 3.2 M parameters, any input size.

    model = mobilenet(num_classes=7)

Howard et al. 2017, "MobileNets" (arXiv:1704.04861), as in Keras: convolutions with
stride 2 pad at the end first, activations are cut off at 6.

Parameter paths: `stem/conv`, `stem/norm`, `stage1/block1/depthwise`, `.../norm1`,
`.../pointwise`, `.../norm2`, `head`; stages have 64, 128, 256, 512 and 1024 channels.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepfer_jax.models.convolution import Conv
from deepfer_jax.models.layers import ConvNorm, classify, create_norm, run_stages


class Block(nn.Module):
    """A depthwise 3x3 and a 1x1 convolution, each normalised; no shortcut."""

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    drop_path: Callable[[float], nn.Module]
    drop_rate: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        depthwise = functools.partial(self.conv, feature_group_count=channels)
        x = depthwise(channels, (3, 3), strides=self.stride, name="depthwise")(x)
        x = nn.relu6(self.norm(name="norm1")(x))
        x = self.conv(self.features, (1, 1), name="pointwise")(x)
        return nn.relu6(self.norm(name="norm2")(x))


class MobileNet(nn.Module):
    """A stem that halves the image, five stages, average pooling and a classifier.

    Attributes:
      num_classes: number of logits.
      stage_features: channels of each stage; all but the first halve the image.
      stage_blocks: blocks of each stage.
      dropout_rate: before the classifier.
      dtype: of computation; parameters, statistics and logits are float32.
      bn_axis_name: axis over which batch statistics are averaged in training.
      frozen: which layers, by path, keep their batch statistics in training.
    """

    num_classes: int
    stage_features: Sequence[int]
    stage_blocks: Sequence[int]
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32
    bn_axis_name: str | None = None
    frozen: Callable[[str], bool] | None = None

    # Blocks without a shortcut cannot be left out.
    stochastic_depth = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits, float32 [batch, num_classes].

        Args:
          images: float [batch, height, width, channels], normalised.
          train: use and update batch statistics, and drop out (needs the "dropout" key
            where `dropout_rate` is not 0).
        """
        conv = functools.partial(Conv, use_bias=False, dtype=self.dtype)
        norm = create_norm(self, train, epsilon=EPSILON)
        block = functools.partial(Block, conv=conv, norm=norm)
        x = images.astype(self.dtype)
        x = ConvNorm(STEM_FEATURES, (3, 3), conv, norm, stride=2, name="stem")(x)
        x = run_stages(self, nn.relu6(x), block, self.stage_features, train)
        return classify(self, x, train)


STEM_FEATURES = 32
EPSILON = 1e-3

mobilenet = functools.partial(
    MobileNet,
    stage_features=(64, 128, 256, 512, 1024),
    stage_blocks=(1, 2, 2, 6, 2),
)
