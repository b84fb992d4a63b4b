"""What a network looked at: Grad-CAM, and whether its maps tell the truth.

    explain = make_grad_cam(trained.model_config, trained.classes)
    heat = explain(trained.variables, images, labels)          # [N, H, W] in [0, 1]
    without = delete_highest(images, heat)

Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) weighs the channels of the last stage
by the gradient of a class's logit; the positive part of their sum is where the class
was seen. Of the networks that end in an average over the image it is the class
activation map (Zhou et al. 2016). Its check asks nothing of the network's inside:
`occlusion`, and the deletion of pixels (Petsiuk et al. 2018, arXiv:1806.07421).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from deepfer_jax.evaluation.predict import make_predict
from deepfer_jax.models.preprocess import make_preprocess, to_unit
from deepfer_jax.occlusion import occlusion_map
from deepfer_jax.runs.trained import TrainedModel, build_model

_BATCH = 128


def make_grad_cam(
    model_config: ConfigDict, classes: Sequence[str]
) -> Callable[[Any, np.ndarray, np.ndarray], np.ndarray]:
    """Returns `explain(variables, images, labels) -> maps`, compiled and in batches.

    Args:
      model_config: a run's `config.model`.
      classes: names of its logits.

    images are uint8 [N, H, W, C], labels int [N], the classes that are asked for; maps
    float32 [N, H, W] in [0, 1], of which the largest is 1 unless nothing speaks for the
    class.
    """
    model = build_model(model_config, classes)
    to_input = make_preprocess(model_config)

    @jax.jit
    def explain_batch(variables, images, labels):
        stage = _last_stage(variables["params"])
        inputs = to_input(to_unit(images))

        def read(moved):
            """The chosen logits, and the last stage's output, moved by so much."""
            outputs = []

            def move(next_fun, args, kwargs, context):
                output = next_fun(*args, **kwargs)
                if context.module.path == (stage,):
                    outputs.append(output)
                    output = output + moved
                return output

            with nn.intercept_methods(move):
                logits = model.apply(variables, inputs, train=False)
            chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)
            return chosen.sum(), outputs[0].astype(jnp.float32)

        _, outputs = jax.eval_shape(read, 0.0)
        gradient, outputs = jax.grad(read, has_aux=True)(jnp.zeros(outputs.shape))
        weights = gradient.mean((1, 2), keepdims=True)
        maps = jnp.maximum((weights * outputs).sum(-1), 0.0)
        maps = jax.image.resize(maps, (len(maps), *images.shape[1:3]), "linear")
        return maps / jnp.maximum(maps.max((1, 2), keepdims=True), 1e-9)

    def explain(variables, images, labels):
        size = min(_BATCH, len(images))
        maps = []
        for start in range(0, len(images), size):
            some = slice(start, start + size)
            short = size - len(images[some])
            image = np.pad(images[some], [(0, short), (0, 0), (0, 0), (0, 0)])
            label = np.pad(np.asarray(labels[some], np.int32), (0, short))
            maps.append(np.asarray(explain_batch(variables, image, label)))
        return np.concatenate(maps)[: len(images)]

    return explain


def explain_faces(
    trained: TrainedModel, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both maps of each face.

    Args:
      trained: the network.
      images: uint8 [N, H, W, C].
      labels: int [N], the classes that are asked for.

    Returns:
      Grad-CAM's maps, float32 [N, H, W] in [0, 1], and the occlusion maps, float32
      [N, H, W] in [-1, 1].
    """
    network = make_predict(trained.model_config, trained.classes, trained.temperature)
    compiled = jax.jit(lambda faces: network(trained.variables, to_unit(faces)))

    def predict(faces):
        return np.asarray(compiled(faces))

    grad_cam = make_grad_cam(trained.model_config, trained.classes)
    pairs = zip(images, labels, strict=True)
    occlusion = [occlusion_map(predict, face, label) for face, label in pairs]
    return grad_cam(trained.variables, images, labels), np.stack(occlusion)


def _last_stage(params: dict[str, Any]) -> str:
    """Of the names stage1, stage2, ... the last."""
    stages = [name for name in params if re.fullmatch(r"stage\d+", name)]
    return max(stages, key=lambda name: int(name.removeprefix("stage")))


def delete_highest(
    images: np.ndarray, maps: np.ndarray, share: float = 0.1
) -> np.ndarray:
    """Images without the pixels that are highest in their maps.

    Args:
      images: uint8 [N, H, W, C].
      maps: float [N, H, W].
      share: of the pixels; they get the image's mean.

    Returns:
      uint8 [N, H, W, C].
    """
    flat = maps.reshape(len(maps), -1)
    num = round(share * flat.shape[1])
    highest = np.argsort(-flat, axis=1, kind="stable")[:, :num]
    deleted = np.zeros(flat.shape, bool)
    np.put_along_axis(deleted, highest, True, axis=1)
    mean = np.rint(images.mean((1, 2), keepdims=True)).astype(np.uint8)
    return np.where(deleted.reshape(maps.shape)[..., None], mean, images)
