"""Networks by name: `create_model("tiny", num_classes=7)`.

Every network is a Flax module called as `model(images, train)`, with images float
[batch, height, width, channels] after normalisation, and logits float32
[batch, num_classes].

    model = create_model("resnet18", num_classes=7, stem="small", dtype=jnp.bfloat16)
    variables = model.init(jax.random.key(0), images)
    logits = model.apply(variables, images)

`MODELS` has ours; another's is named by where it stands, "package.module:Class".
"""

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from deepfer_jax.models import cnn, dlib_resnet, mobilenet, resnet
from deepfer_jax.models.layers import Stage
from deepfer_jax.models.quality import FEATURES

MODELS: dict[str, Callable[..., nn.Module]] = {
    "tiny": cnn.tiny,
    "small": cnn.small,
    "base": cnn.base,
    "vgg": cnn.VGG,
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
    "dlib_resnet29": dlib_resnet.dlib_resnet29,
    "mobilenet": mobilenet.mobilenet,
}

# What Flax gives to every module, and our own argument.
_NOT_OPTIONS = {"parent", "name", "num_classes"}


def create_model(name: str, num_classes: int = 7, **options: Any) -> nn.Module:
    """Constructs a network.

    Args:
      name: a key of MODELS; or "module:constructor" of a Flax module of your own (or a
        functools.partial of one), which takes num_classes, dtype, dropout_rate,
        bn_axis_name and frozen, and is called as the others are. The module is looked
        for in the current folder too.
      num_classes: number of logits.
      **options: of all networks: `dtype` (of computation; parameters stay float32),
        `dropout_rate` (before the classifier; in `vgg` after each wide layer),
        `bn_axis_name` (the axis of pmap over which batch statistics are averaged in
        training). Of residual networks also `stochastic_depth`; of ResNets `stem`
        and `zero_init_residual`; of `tiny`, `small` and `base` the other fields of
        `cnn.ResidualCNN`.

    Returns:
      A module; nothing is computed yet.

    Raises:
      ValueError: unknown name or option.
    """
    constructor = _find_constructor(name)
    known = inspect.signature(constructor).parameters.keys() - _NOT_OPTIONS
    for option in options:
        if option not in known:
            raise ValueError(
                f"model {name!r}: options are {sorted(known)}, found {option!r}"
            )
    return constructor(num_classes=num_classes, **options)


def _find_constructor(name: str) -> Callable[..., nn.Module]:
    if name in MODELS:
        return MODELS[name]
    module, separator, attribute = name.partition(":")
    if not separator:
        raise ValueError(
            f"model: expected one of {sorted(MODELS)}, or module:constructor of your "
            f"own, found {name!r}"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        constructor = getattr(importlib.import_module(module), attribute)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(f"model {name!r}: {error}") from None
    cls = constructor
    while isinstance(cls, functools.partial):
        cls = cls.func
    if not (inspect.isclass(cls) and issubclass(cls, nn.Module)):
        raise ValueError(f"model {name!r}: expected a flax.linen.Module")
    return constructor


def stage_features(
    model: nn.Module, variables: dict[str, Any], images: jax.Array
) -> dict[str, jax.Array]:
    """What each stage of a residual network gives, in inference.

    Args:
      model: one of `create_model`.
      variables: {params, batch_stats}.
      images: float [batch, height, width, channels], normalised.

    Returns:
      {"stage1": float [batch, height, width, channels], "stage2": ..., ...}.
    """
    _, state = model.apply(
        variables,
        images,
        capture_intermediates=lambda module, _: isinstance(module, Stage),
        mutable=["intermediates"],
    )
    return {
        name: outputs["__call__"][0]
        for name, outputs in sorted(state["intermediates"].items())
        if name != FEATURES and "__call__" in outputs
    }
