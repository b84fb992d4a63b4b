"""Batch normalisation whose statistics were folded away: made anew from faces.

    flat |= unfold(("stem", "norm"), scale, bias, epsilon)
    variables = measure_statistics(model, variables, images)

Published for inference alone, a layer's normalisation is a scale and a bias a channel.
The same with mean 0 and variance 1 is batch normalisation, but in training it would
change its function at once: so the statistics of faces are put in, and scale and bias
undo them.
"""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from deepfer_jax.models.batch_norm import BatchNorm


def unfold(
    path: tuple[str, ...], scale: np.ndarray, bias: np.ndarray, epsilon: float
) -> dict[tuple[str, ...], np.ndarray]:
    """Variables by path of a batch normalisation that computes x * scale + bias.

    Args:
      path: of the layer, such as ("stem", "norm").
      scale: float32 [channels].
      bias: float32 [channels].
      epsilon: of the layer.
    """
    return {
        ("params", *path, "scale"): scale * np.sqrt(np.float32(1 + epsilon)),
        ("params", *path, "bias"): bias,
        ("batch_stats", *path, "mean"): np.zeros_like(bias),
        ("batch_stats", *path, "var"): np.ones_like(bias),
    }


def measure_statistics(
    model: nn.Module, variables: dict[str, Any], images: jax.Array
) -> dict[str, Any]:
    """Gives every batch normalisation the statistics of images; the function stays.

    Args:
      model: one of `create_model`.
      variables: {params, batch_stats} of it.
      images: float32 [batch, height, width, channels], normalised; some hundred faces
        of the size to train at.

    Returns:
      {params, batch_stats} alike.
    """
    measured: dict[tuple[str, ...], tuple[jax.Array, jax.Array]] = {}
    epsilons: dict[tuple[str, ...], float] = {}

    def measure(next_fun, args, kwargs, context):
        module = context.module
        if isinstance(module, BatchNorm) and context.method_name == "__call__":
            measured[module.path] = args[0].mean((0, 1, 2)), args[0].var((0, 1, 2))
            epsilons[module.path] = module.epsilon
        return next_fun(*args, **kwargs)

    @jax.jit
    def run(variables, images):
        with nn.intercept_methods(measure):
            model.apply(variables, images)
        return dict(measured)

    flat = dict(flax.traverse_util.flatten_dict(variables))
    for path, (mean, var) in jax.device_get(run(variables, images)).items():
        epsilon = epsilons[path]
        old_mean, old_var = (flat["batch_stats", *path, x] for x in ("mean", "var"))
        gain = flat["params", *path, "scale"] / np.sqrt(old_var + epsilon)
        bias = flat["params", *path, "bias"] + gain * (mean - old_mean)
        flat["params", *path, "scale"] = jnp.asarray(gain * np.sqrt(var + epsilon))
        flat["params", *path, "bias"] = jnp.asarray(bias)
        flat["batch_stats", *path, "mean"] = jnp.asarray(mean)
        flat["batch_stats", *path, "var"] = jnp.asarray(var)
    return flax.traverse_util.unflatten_dict(flat)
