"""A network's shapes and variables, without a program that draws them."""

import jax
import jax.numpy as jnp
import numpy as np


def shapes_of(model, shape=(48, 48, 1)):
    images = jnp.zeros((1, *shape))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images))


def random_variables(model, shape=(48, 48, 1)):
    """Variables by NumPy, with non-trivial statistics: compiles nothing.

    Kernels are drawn small enough for logits of ResNet-50 to stay near 1, where an
    absolute tolerance means something.
    """
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            fan_in = np.prod(leaf.shape[:-1])
            gain = fan_in**-0.5 if name == "kernel" else 0.1
            value = gain * rng.normal(size=leaf.shape)
        return value.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes_of(model, shape))
