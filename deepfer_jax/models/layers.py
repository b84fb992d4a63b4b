"""What the networks share: layers, and the beginning and the end of each.

conv = functools.partial(Conv, use_bias=False)
norm = create_norm(self, train)
x = ConvNorm(32, (7, 7), conv, norm, stride=2, name="stem")(x)
x = max_pool(nn.relu(x), padding=1)
x = run_stages(self, x, block, (64, 128), train)
return classify(self, x, train)
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from deepfer_jax.models.batch_norm import BatchNorm
from deepfer_jax.models.quality import FEATURES


def max_pool(x: jax.Array, padding: int = 0) -> jax.Array:
    """The largest of 3x3 pixels, in steps of two; as nn.max_pool, of rows and columns.

    On a CPU the gradient takes a sixth of the time of XLA's select-and-scatter.
    """
    edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    x = jnp.pad(x, edges, constant_values=-jnp.inf)
    for axis in (1, 2):
        end = x.shape[axis] - 2
        first, second, third = (
            jax.lax.slice_in_dim(x, i, end + i, 2, axis) for i in range(3)
        )
        x = jnp.maximum(jnp.maximum(first, second), third)
    return x


class ConvNorm(nn.Module):
    """A convolution and its batch normalisation, as `conv` and `norm`."""

    features: int
    kernel_size: tuple[int, int]
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    stride: int = 1
    padding: int | str = "SAME"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.conv(
            self.features,
            self.kernel_size,
            strides=self.stride,
            padding=self.padding,
            name="conv",
        )(x)
        return self.norm(name="norm")(x)


def create_norm(network: nn.Module, train: bool, **options) -> Callable[..., nn.Module]:
    """Returns `norm(name=...)`, a network's batch normalisation.

    Args:
      network: has dtype, bn_axis_name and frozen.
      train: whether batch statistics are used and updated.
      **options: of BatchNorm.
    """
    return functools.partial(
        BatchNorm,
        train=train,
        frozen=network.frozen,
        momentum=0.9,  # PyTorch's 0.1
        dtype=network.dtype,
        axis_name=network.bn_axis_name if train else None,
        **options,
    )


def drop_rates(stage_blocks: Sequence[int], highest: float) -> list[list[float]]:
    """The rate of each stage's blocks, rising in a line to that of the last block.

    >>> drop_rates((1, 3), 0.5)
    [[0.125], [0.25, 0.375, 0.5]]
    """
    total, rates, before = sum(stage_blocks), [], 0
    for num in stage_blocks:
        rates.append([highest * (before + i + 1) / total for i in range(num)])
        before += num
    return rates


class Stage(nn.Module):
    """Residual blocks of one width; the first one divides the image by `stride`.

    They are called block1, block2, ... or count from another `first` number; there are
    as many as `drop_rates`, the probabilities of leaving out their branches.
    """

    features: int
    stride: int
    block: Callable[..., nn.Module]
    drop_rates: Sequence[float]
    first: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, rate in enumerate(self.drop_rates):
            stride = self.stride if i == 0 else 1
            name = f"block{self.first + i}"
            x = self.block(self.features, stride, drop_rate=rate, name=name)(x)
        return x


def run_stages(
    network: nn.Module,
    x: jax.Array,
    block: Callable[..., nn.Module],
    features: Sequence[int],
    train: bool,
    first: int = 1,
) -> jax.Array:
    """Runs stage1, stage2, ... of a network; all but the first halve the image.

    In training whole branches are left out, with a probability that rises in a line to
    the network's `stochastic_depth`; a branch that stays is divided by its own (Huang
    et al. 2016, arXiv:1603.09382).

    Args:
      network: has stage_blocks and stochastic_depth.
      x: [batch, height, width, channels], of the stem.
      block: takes features and stride, drop_path and drop_rate.
      features: of each stage.
      train: whether branches are left out.
      first: the number of a stage's first block.
    """
    drop_path = functools.partial(
        nn.Dropout, broadcast_dims=(1, 2, 3), deterministic=not train
    )
    block = functools.partial(block, drop_path=drop_path)
    rates = drop_rates(network.stage_blocks, network.stochastic_depth)
    for i, width in enumerate(features):
        stride = 1 if i == 0 else 2
        x = Stage(width, stride, block, rates[i], first, name=f"stage{i + 1}")(x)
    return x


def classify(network: nn.Module, x: jax.Array, train: bool) -> jax.Array:
    """The end of a network: averages over the image, drops out, gives logits.

    The averages are what `models.quality` reads (Flax's intermediates).

    Args:
      network: has num_classes and dropout_rate.
      x: [batch, height, width, channels].
      train: whether it drops out.

    Returns:
      float32 [batch, num_classes].
    """
    x = x.astype(jnp.float32).mean((1, 2))
    network.sow("intermediates", FEATURES, x)
    x = nn.Dropout(network.dropout_rate, deterministic=not train)(x)
    return nn.Dense(network.num_classes, name="head")(x)
