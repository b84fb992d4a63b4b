"""ResNet-18, 34 and 50 with torchvision's exact padding, strides and parameter counts.

    model = resnet18(num_classes=7, stem="small")

He et al. 2016 (arXiv:1512.03385); ResNet-50 is the "v1.5" with the stride in the 3x3
convolution. Names follow the paper's stages: `stage1/block0/conv1`, `downsample_conv`.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

_KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions."""

    features: int
    stride: int
    conv: Any
    norm: Any
    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(
            self.features, (3, 3), strides=self.stride, padding=1, name="conv1"
        )(x)
        y = nn.relu(self.norm(name="norm1")(y))
        y = self.conv(self.features, (3, 3), padding=1, name="conv2")(y)
        y = self.norm(name="norm2")(y)
        return nn.relu(y + _shortcut(x, y.shape[-1], self.stride, self.conv, self.norm))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 to four times the channels."""

    features: int
    stride: int
    conv: Any
    norm: Any
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(self.features, (1, 1), padding=0, name="conv1")(x)
        y = nn.relu(self.norm(name="norm1")(y))
        y = self.conv(
            self.features, (3, 3), strides=self.stride, padding=1, name="conv2"
        )(y)
        y = nn.relu(self.norm(name="norm2")(y))
        y = self.conv(4 * self.features, (1, 1), padding=0, name="conv3")(y)
        y = self.norm(name="norm3")(y)
        return nn.relu(y + _shortcut(x, y.shape[-1], self.stride, self.conv, self.norm))


def _shortcut(x: jax.Array, features: int, stride: int, conv, norm) -> jax.Array:
    """The input itself, or its 1x1 projection where size or channels differ."""
    if stride == 1 and x.shape[-1] == features:
        return x
    x = conv(features, (1, 1), strides=stride, padding=0, name="downsample_conv")(x)
    return norm(name="downsample_norm")(x)


class Stage(nn.Module):
    """Blocks of one width; the first has the stride."""

    block: Any
    features: int
    num_blocks: int
    stride: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in range(self.num_blocks):
            stride = self.stride if i == 0 else 1
            block = self.block(
                self.features, stride, self.conv, self.norm, name=f"block{i}"
            )
            x = block(x)
        return x


class ResNet(nn.Module):
    """A ResNet of four stages.

    Attributes:
      num_classes: number of logits.
      block: BasicBlock or Bottleneck.
      stage_blocks: blocks of each stage.
      stem: "imagenet", 7x7 with stride 2 and a max pool, or "small", 3x3 with stride 1,
        for 48-pixel faces.
      dropout_rate: before the classifier.
      dtype: of computation; parameters, statistics and logits are float32.
      bn_axis_name: axis over which batch statistics are averaged in training.
    """

    num_classes: int
    block: Any
    stage_blocks: Sequence[int]
    stem: str = "imagenet"
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32
    bn_axis_name: str | None = None

    def __post_init__(self):
        if self.stem not in ("imagenet", "small"):
            raise ValueError(
                f"stem: expected 'imagenet' or 'small', found {self.stem!r}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        conv = functools.partial(
            nn.Conv, use_bias=False, dtype=self.dtype, kernel_init=_KERNEL_INIT
        )
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            axis_name=self.bn_axis_name if train else None,
        )
        x = images.astype(self.dtype)
        if self.stem == "imagenet":
            x = conv(64, (7, 7), strides=2, padding=3, name="stem_conv")(x)
        else:
            x = conv(64, (3, 3), padding=1, name="stem_conv")(x)
        x = nn.relu(norm(name="stem_norm")(x))
        if self.stem == "imagenet":
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for i, num_blocks in enumerate(self.stage_blocks):
            stride = 1 if i == 0 else 2
            name = f"stage{i + 1}"
            x = Stage(self.block, 64 * 2**i, num_blocks, stride, conv, norm, name=name)(
                x
            )
        x = x.mean((1, 2))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32))


resnet18 = functools.partial(ResNet, block=BasicBlock, stage_blocks=(2, 2, 2, 2))
resnet34 = functools.partial(ResNet, block=BasicBlock, stage_blocks=(3, 4, 6, 3))
resnet50 = functools.partial(ResNet, block=Bottleneck, stage_blocks=(3, 4, 6, 3))
