"""A network that is not the package's, without batch normalisation."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp


class OwnNetwork(nn.Module):
    num_classes: int
    features: int = 8
    dtype: Any = jnp.float32
    dropout_rate: float = 0.0
    bn_axis_name: str | None = None
    frozen: Any = None

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.relu(nn.Conv(self.features, (3, 3), strides=4)(images))
        return nn.Dense(self.num_classes, name="head")(x.mean((1, 2)))
