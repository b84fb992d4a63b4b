"""Networks for 48x48 gray faces: a residual family (`tiny`, `small`, `base`) and a VGG.

    model = tiny(num_classes=7)
    variables = model.init(jax.random.key(0), images)
    logits = model.apply(variables, images)                     # [batch, 7]

Parameter paths: `stem/conv`, `stem/norm`, `stage1/block1/conv1`, `.../norm1`,
`.../downsample/conv`, `head`; of the VGG `stage1/conv1`, `stage1/norm1`, `fc1`.

All convolutions are dense: on a CPU, XLA runs depthwise ones 15 to 30 times slower.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepfer_jax.models.convolution import Conv
from deepfer_jax.models.layers import ConvNorm, classify, create_norm, run_stages
from deepfer_jax.models.quality import FEATURES


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, arXiv:1512.03385)."""

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    act: Callable[[jax.Array], jax.Array]
    drop_path: Callable[[float], nn.Module]
    drop_rate: float
    squeeze: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(self.features, (3, 3), strides=self.stride, name="conv1")(x)
        y = self.act(self.norm(name="norm1")(y))
        y = self.conv(self.features, (3, 3), name="conv2")(y)
        y = self.norm(name="norm2")(y)
        if self.squeeze:
            y = SqueezeExcitation(self.squeeze, name="squeeze")(y)
        if x.shape != y.shape:
            if self.stride > 1:
                # Averaging, not skipping, pixels (He et al. 2019, arXiv:1812.01187).
                strides = (self.stride, self.stride)
                x = nn.avg_pool(
                    x, window_shape=strides, strides=strides, padding="SAME"
                )
            x = ConvNorm(
                self.features, (1, 1), self.conv, self.norm, name="downsample"
            )(x)
        return self.act(x + self.drop_path(self.drop_rate)(y))


class SqueezeExcitation(nn.Module):
    """Weighs channels by what the whole image holds (Hu et al. 2018, arXiv:1709.01507).

    Of x [batch, height, width, channels], through channels / reduction features.
    """

    reduction: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1]
        y = x.astype(jnp.float32).mean((1, 2))
        y = nn.relu(nn.Dense(features // self.reduction, name="reduce")(y))
        y = nn.sigmoid(nn.Dense(features, name="expand")(y))
        return x * y[:, None, None].astype(x.dtype)


class ResidualCNN(nn.Module):
    """A stem, stages of residual blocks, global average pooling and a classifier.

    Attributes:
      num_classes: number of logits.
      stem_features: channels of the first convolution.
      stem_stride: its stride.
      stage_features: channels of each stage; all but the first halve the image.
      stage_blocks: residual blocks of each stage.
      dropout_rate: before the classifier.
      stochastic_depth: probability of leaving out the last block's branch in training;
        it falls in a line to the first block's.
      squeeze: reduction of squeeze-and-excitation in every block; 0 is none.
      dtype: of computation; parameters, statistics and logits are float32.
      bn_axis_name: axis over which batch statistics are averaged in training.
      frozen: which layers, by path, keep their batch statistics in training.
      act: activation.
    """

    num_classes: int
    stem_features: int
    stem_stride: int
    stage_features: Sequence[int]
    stage_blocks: Sequence[int]
    dropout_rate: float = 0.0
    stochastic_depth: float = 0.0
    squeeze: int = 0
    dtype: Any = jnp.float32
    bn_axis_name: str | None = None
    frozen: Callable[[str], bool] | None = None
    act: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits, float32 [batch, num_classes].

        Args:
          images: float [batch, height, width, channels], normalised.
          train: use and update batch statistics, and drop out (needs the "dropout"
            key where one of these rates is not 0).
        """
        conv = functools.partial(Conv, use_bias=False, dtype=self.dtype)
        norm = create_norm(self, train)
        block = functools.partial(
            ResidualBlock,
            conv=conv,
            norm=norm,
            act=self.act,
            squeeze=self.squeeze,
        )
        x = images.astype(self.dtype)
        x = ConvNorm(
            self.stem_features, (3, 3), conv, norm, stride=self.stem_stride, name="stem"
        )(x)
        x = self.act(x)
        x = run_stages(self, x, block, self.stage_features, train)
        return classify(self, x, train)


# The real-time network: 0.22 M parameters and 14 MFLOPs a face.
tiny = functools.partial(
    ResidualCNN,
    stem_features=16,
    stem_stride=2,
    stage_features=(16, 32, 64, 96),
    stage_blocks=(1, 1, 1, 1),
)

# 2.8 M parameters and 131 MFLOPs a face.
small = functools.partial(
    ResidualCNN,
    stem_features=32,
    stem_stride=2,
    stage_features=(32, 64, 128, 256),
    stage_blocks=(2, 2, 2, 2),
    squeeze=8,
)

# 2.8 M parameters and 571 MFLOPs a face.
base = functools.partial(
    ResidualCNN,
    stem_features=32,
    stem_stride=1,
    stage_features=(32, 64, 128, 256),
    stage_blocks=(2, 2, 2, 2),
)


class DoubleConv(nn.Module):
    """Twice a 3x3 convolution, batch normalisation and activation; then a max pool."""

    features: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    act: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in (1, 2):
            x = self.conv(self.features, (3, 3), name=f"conv{i}")(x)
            x = self.act(self.norm(name=f"norm{i}")(x))
        return nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))


class VGG(nn.Module):
    """Four double convolutions and two 4,096-wide layers, for one fixed image size.

    Khaireddin & Chen 2021 (arXiv:2105.03588).

    Attributes:
      num_classes: number of logits.
      dropout_rate: after each of the two wide layers.
      dtype: of computation; parameters, statistics and logits are float32.
      bn_axis_name: axis over which batch statistics are averaged in training.
      frozen: which layers, by path, keep their batch statistics in training.
      act: activation.
    """

    num_classes: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32
    bn_axis_name: str | None = None
    frozen: Callable[[str], bool] | None = None
    act: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits, float32 [batch, num_classes].

        Args:
          images: float [batch, height, width, channels], normalised; height and width
            at least 16, and those of the images it was created with.
          train: use and update batch statistics, and drop out (needs the "dropout"
            key where `dropout_rate` is not 0).
        """
        conv = functools.partial(Conv, dtype=self.dtype)
        norm = create_norm(self, train)
        x = images.astype(self.dtype)
        for i, features in enumerate((64, 128, 256, 512), start=1):
            x = DoubleConv(features, conv, norm, self.act, name=f"stage{i}")(x)
        x = x.reshape(len(x), -1)
        for i in (1, 2):
            x = self.act(nn.Dense(4096, dtype=self.dtype, name=f"fc{i}")(x))
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        x = x.astype(jnp.float32)
        self.sow("intermediates", FEATURES, x)
        return nn.Dense(self.num_classes, name="head")(x)
