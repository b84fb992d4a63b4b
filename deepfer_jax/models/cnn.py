"""Networks for 48x48 gray faces: a residual family (`tiny`, `base`) and a VGG.

    model = tiny(num_classes=7)
    variables = model.init(jax.random.key(0), images)
    logits = model.apply(variables, images)                     # [batch, 7]

All convolutions are dense: on a CPU, XLA runs depthwise ones 15 to 30 times slower.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, arXiv:1512.03385)."""

    features: int
    stride: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(self.features, (3, 3), strides=self.stride, name="conv1")(x)
        y = nn.relu(self.norm(name="norm1")(y))
        y = self.conv(self.features, (3, 3), name="conv2")(y)
        y = self.norm(name="norm2")(y)
        if x.shape != y.shape:
            if self.stride > 1:
                # Averaging, not skipping, pixels (He et al. 2019, arXiv:1812.01187).
                x = nn.avg_pool(x, (2, 2), strides=(2, 2))
            x = self.conv(self.features, (1, 1), name="shortcut_conv")(x)
            x = self.norm(name="shortcut_norm")(x)
        return nn.relu(x + y)


class Stage(nn.Module):
    """Residual blocks of one width; the first one halves the image by `stride`."""

    features: int
    num_blocks: int
    stride: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in range(self.num_blocks):
            stride = self.stride if i == 0 else 1
            x = ResidualBlock(
                self.features, stride, self.conv, self.norm, name=f"block{i + 1}"
            )(x)
        return x


class ResidualCNN(nn.Module):
    """A stem, stages of residual blocks, global average pooling and a classifier.

    Attributes:
      num_classes: number of logits.
      stem_features: channels of the first convolution.
      stem_stride: its stride.
      stage_features: channels of each stage; all but the first halve the image.
      stage_blocks: residual blocks of each stage.
      dropout_rate: before the classifier.
      dtype: of computation; parameters, statistics and logits are float32.
      bn_axis_name: axis over which batch statistics are averaged in training.
    """

    num_classes: int
    stem_features: int
    stem_stride: int
    stage_features: Sequence[int]
    stage_blocks: Sequence[int]
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32
    bn_axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            dtype=self.dtype,
            axis_name=self.bn_axis_name if train else None,
        )
        x = images.astype(self.dtype)
        x = conv(
            self.stem_features, (3, 3), strides=self.stem_stride, name="stem_conv"
        )(x)
        x = nn.relu(norm(name="stem_norm")(x))
        for i, (features, num_blocks) in enumerate(
            zip(self.stage_features, self.stage_blocks, strict=True)
        ):
            stride = 1 if i == 0 else 2
            x = Stage(features, num_blocks, stride, conv, norm, name=f"stage{i + 1}")(x)
        x = x.mean((1, 2))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32))


# The real-time network: about 0.29 M parameters and 13 MFLOPs a face.
tiny = functools.partial(
    ResidualCNN,
    stem_features=16,
    stem_stride=2,
    stage_features=(16, 32, 64, 96),
    stage_blocks=(1, 1, 1, 1),
)

# About 2.8 M parameters.
base = functools.partial(
    ResidualCNN,
    stem_features=32,
    stem_stride=1,
    stage_features=(32, 64, 128, 256),
    stage_blocks=(2, 2, 2, 2),
)


class VGG(nn.Module):
    """Four double convolutions and two 4,096-wide layers, for one fixed image size.

    Khaireddin & Chen 2021 (arXiv:2105.03588).

    Attributes:
      num_classes: number of logits.
      dropout_rate: after each of the two wide layers.
      dtype: of computation; parameters, statistics and logits are float32.
      bn_axis_name: axis over which batch statistics are averaged in training.
    """

    num_classes: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32
    bn_axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            dtype=self.dtype,
            axis_name=self.bn_axis_name if train else None,
        )
        x = images.astype(self.dtype)
        for i, features in enumerate((64, 128, 256, 512), start=1):
            for j in (1, 2):
                name = f"stage{i}_conv{j}"
                x = nn.Conv(features, (3, 3), dtype=self.dtype, name=name)(x)
                x = nn.relu(norm(name=f"stage{i}_norm{j}")(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        for j in (1, 2):
            x = nn.relu(nn.Dense(4096, dtype=self.dtype, name=f"fc{j}")(x))
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32))
