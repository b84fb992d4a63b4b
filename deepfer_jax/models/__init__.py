"""Networks by name: `create_model("tiny", num_classes=7)`.

Every network is a Flax module called as `model(images, train)`, with images float
[batch, height, width, channels] after normalisation, and logits float32
[batch, classes].
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from deepfer_jax.models import cnn, resnet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "tiny": cnn.tiny,
    "base": cnn.base,
    "vgg": cnn.VGG,
    "resnet18": resnet.resnet18,
    "resnet34": resnet.resnet34,
    "resnet50": resnet.resnet50,
}


def create_model(name: str, num_classes: int = 7, **options: Any) -> nn.Module:
    """Constructs a network.

    Args:
      name: a key of MODELS.
      num_classes: number of logits.
      **options: of all networks: `dtype` (of computation; parameters stay float32),
        `dropout_rate` (before the classifier), `bn_axis_name` (the axis of pmap over
        which batch statistics are averaged in training). Of ResNets also `stem`.

    Raises:
      ValueError: unknown name or option.
    """
    if name not in MODELS:
        raise ValueError(f"model: expected one of {sorted(MODELS)}, found {name!r}")
    try:
        return MODELS[name](num_classes=num_classes, **options)
    except TypeError as error:
        raise ValueError(f"model {name!r}: {error}") from None
