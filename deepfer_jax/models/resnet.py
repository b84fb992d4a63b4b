"""ResNet-18, 34 and 50 with torchvision's exact padding, strides and parameter counts.

    model = resnet18(num_classes=7, stem="small")

He et al. 2016 (arXiv:1512.03385); ResNet-50 is the "v1.5" with the stride in the 3x3
convolution. Parameter paths and torchvision's names: `stem/conv` (conv1), `stem/norm`
(bn1), `stage1/block0/conv1` (layer1.0.conv1), `.../norm1` (bn1), `.../downsample/conv`
(downsample.0), `.../downsample/norm` (downsample.1), `head` (fc).
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

# He et al. 2015 (arXiv:1502.01852), as torchvision: fan_out, normal.
_KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class _Block(nn.Module):
    """What both blocks are made with."""

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    act: Callable[[jax.Array], jax.Array]
    last_scale_init: Callable[..., jax.Array]
    drop_path: Callable[[float], nn.Module]
    drop_rate: float


class BasicBlock(_Block):
    """Two 3x3 convolutions beside a shortcut."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(
            self.features, (3, 3), strides=self.stride, padding=1, name="conv1"
        )(x)
        y = self.act(self.norm(name="norm1")(y))
        y = self.conv(self.features, (3, 3), padding=1, name="conv2")(y)
        y = self.norm(name="norm2", scale_init=self.last_scale_init)(y)
        x = _shortcut(x, y, self.stride, self.conv, self.norm)
        return self.act(x + self.drop_path(self.drop_rate)(y))


class Bottleneck(_Block):
    """1x1, 3x3 (with the stride) and 1x1 to four times the channels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv(self.features, (1, 1), padding=0, name="conv1")(x)
        y = self.act(self.norm(name="norm1")(y))
        y = self.conv(
            self.features, (3, 3), strides=self.stride, padding=1, name="conv2"
        )(y)
        y = self.act(self.norm(name="norm2")(y))
        y = self.conv(4 * self.features, (1, 1), padding=0, name="conv3")(y)
        y = self.norm(name="norm3", scale_init=self.last_scale_init)(y)
        x = _shortcut(x, y, self.stride, self.conv, self.norm)
        return self.act(x + self.drop_path(self.drop_rate)(y))


def _shortcut(x: jax.Array, y: jax.Array, stride: int, conv, norm) -> jax.Array:
    """The block's input, or its 1x1 projection where size or channels differ."""
    if stride == 1 and x.shape[-1] == y.shape[-1]:
        return x
    return ConvNorm(
        y.shape[-1],
        (1, 1),
        conv,
        norm,
        stride=stride,
        padding=0,
        name="downsample",
    )(x)


class ResNet(nn.Module):
    """A ResNet: a stem, stages of blocks, global average pooling and a classifier.

    Attributes:
      num_classes: number of logits.
      block: BasicBlock or Bottleneck.
      stage_blocks: blocks of each stage; stage i is 64 * 2**i wide (times four in
        Bottleneck).
      stem: "imagenet", 7x7 with stride 2 and a max pool, or "small", 3x3 with stride 1,
        for 48-pixel faces.
      zero_init_residual: start the last BN scale of each block at 0, so that a block
        starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677, section 5.1). Off
        by default, as in torchvision; use it to train from scratch in large batches.
      dropout_rate: before the classifier.
      stochastic_depth: probability of leaving out the last block's branch in training;
        it falls in a line to the first block's.
      dtype: of computation; parameters, statistics and logits are float32.
      bn_axis_name: axis over which batch statistics are averaged in training.
      frozen: which layers, by path, keep their batch statistics in training.
      act: activation.
    """

    num_classes: int
    block: Callable[..., nn.Module]
    stage_blocks: Sequence[int]
    stem: str = "imagenet"
    zero_init_residual: bool = False
    dropout_rate: float = 0.0
    stochastic_depth: float = 0.0
    dtype: Any = jnp.float32
    bn_axis_name: str | None = None
    frozen: Callable[[str], bool] | None = None
    act: Callable[[jax.Array], jax.Array] = nn.relu

    def __post_init__(self):
        if self.stem not in ("imagenet", "small"):
            raise ValueError(
                f"stem: expected 'imagenet' or 'small', found {self.stem!r}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Returns logits, float32 [batch, num_classes].

        Args:
          images: float [batch, height, width, channels], normalised.
          train: use and update batch statistics, and drop out (needs the "dropout"
            key where `dropout_rate` is not 0).
        """
        conv = functools.partial(
            Conv, use_bias=False, dtype=self.dtype, kernel_init=_KERNEL_INIT
        )
        norm = create_norm(self, train, epsilon=1e-5)
        zeros, ones = nn.initializers.zeros, nn.initializers.ones
        block = functools.partial(
            self.block,
            conv=conv,
            norm=norm,
            act=self.act,
            last_scale_init=zeros if self.zero_init_residual else ones,
        )
        x = images.astype(self.dtype)
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = ConvNorm(
            64,
            (kernel, kernel),
            conv,
            norm,
            stride=stride,
            padding=kernel // 2,
            name="stem",
        )(x)
        x = self.act(x)
        if self.stem == "imagenet":
            x = max_pool(x, padding=1)
        features = [64 * 2**i for i in range(len(self.stage_blocks))]
        # torchvision counts blocks from 0.
        x = run_stages(self, x, block, features, train, first=0)
        return classify(self, x, train)


resnet18 = functools.partial(ResNet, block=BasicBlock, stage_blocks=(2, 2, 2, 2))
resnet34 = functools.partial(ResNet, block=BasicBlock, stage_blocks=(3, 4, 6, 3))
resnet50 = functools.partial(ResNet, block=Bottleneck, stage_blocks=(3, 4, 6, 3))
