"""From a batch of faces to probabilities, and to the sums that metrics are made of.

    predict = make_predict(trained.model_config, trained.classes)
    probabilities = predict(variables, images)
    eval_step = create_eval_step(trained.model_config, trained.classes, "ten_crop")
    sums, probabilities = eval_step(replicated_variables, batch)

The one way from a face to probabilities, for validation within training, evaluation,
distillation and export.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from deepfer_jax import parallel
from deepfer_jax.errors import UserError
from deepfer_jax.evaluation.metrics import Metrics
from deepfer_jax.models.preprocess import make_preprocess, to_unit
from deepfer_jax.models.quality import FEATURES, QualityHead, darkness, spoils
from deepfer_jax.runs.trained import build_model


def _one_view(images: jax.Array) -> jax.Array:
    return images[None]


def _flip_views(images: jax.Array) -> jax.Array:
    return jnp.stack([images, images[:, :, ::-1]])


def _ten_crop_views(images: jax.Array) -> jax.Array:
    """Corners and centre of 11/12 of the height and width, and their mirror images.

    Each crop (44 of 48 pixels) is resized to the full size bilinearly, so that a
    network of any kind can read it.
    """
    height, width = images.shape[1:3]
    h, w = round(height * 11 / 12), round(width * 11 / 12)
    corners = [(0, 0), (0, width - w), (height - h, 0), (height - h, width - w)]
    places = [*corners, ((height - h) // 2, (width - w) // 2)]
    crops = jnp.stack([images[:, y : y + h, x : x + w] for y, x in places])
    crops = jax.image.resize(crops, (len(places), *images.shape), "linear")
    return jnp.concatenate([crops, crops[:, :, :, ::-1]])


# Test-time augmentation: images [b, H, W, C] -> [views, b, H, W, C].
VIEWS = {"none": _one_view, "flip": _flip_views, "ten_crop": _ten_crop_views}


def make_predict(
    model_config: ConfigDict, classes: Sequence[str], temperature: float = 1.0
) -> Callable[[Any, jax.Array], jax.Array]:
    """Returns `predict(variables, images) -> probabilities float32 [b, classes]`.

    Args:
      model_config: a run's `config.model`.
      classes: names of its logits.
      temperature: by which logits are divided.

    images are float32 [b, H, W, C] in [0, 1].
    """
    model = build_model(model_config, classes)
    to_input = make_preprocess(model_config)

    def predict(variables, images):
        logits = model.apply(variables, to_input(images), train=False)
        return jax.nn.softmax(logits / temperature)

    return predict


def make_read_features(
    model_config: ConfigDict, classes: Sequence[str]
) -> Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]:
    """Returns `read(variables, images) -> (logits, features float32 [b, F])`.

    Features are what the network gives its classifier. Arguments as of `make_predict`.

    Raises:
      UserError: by `read`: a network of one's own that does not keep them.
    """
    model = build_model(model_config, classes)
    to_input = make_preprocess(model_config)

    def read(variables, images):
        logits, kept = model.apply(
            variables, to_input(images), train=False, mutable=["intermediates"]
        )
        try:
            (features,) = kept["intermediates"][FEATURES]
        except KeyError:
            raise UserError(
                f"config.model.name: {model_config.name!r} keeps no features: end it "
                "with deepfer_jax.models.layers.classify"
            ) from None
        return logits, features

    return read


def make_judge(
    model_config: ConfigDict, classes: Sequence[str], temperature: float = 1.0
) -> Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]:
    """Returns `judge(variables, images) -> (probabilities, strengths)`.

    As `make_predict`, and how strongly each of `quality.CAUSES` spoils the face,
    float32 [b, 4] in [0, 1]; of variables without "quality", those of a QualityHead,
    only how strongly UNLEARNED do.
    """
    predict = make_predict(model_config, classes, temperature)
    read = make_read_features(model_config, classes)

    def judge(variables, images):
        if "quality" not in variables:
            return predict(variables, images), darkness(images)[:, None]
        logits, features = read(variables, images)
        quality = QualityHead().apply({"params": variables["quality"]}, features)
        return jax.nn.softmax(logits / temperature), spoils(quality, images)

    return judge


def create_eval_step(
    model_config: ConfigDict,
    classes: Sequence[str],
    tta: str = "none",
    temperature: float = 1.0,
) -> Callable:
    """Compiles `eval_step(variables, batch) -> (metrics, probabilities)`.

    Args:
      model_config: a run's `config.model`.
      classes: names of its logits.
      tta: a name of VIEWS, over which probabilities are averaged.
      temperature: by which logits are divided.

    batch holds, split over the devices, image uint8 [d, b, H, W, C], label int32 [d, b]
    and mask bool [d, b]; metrics are sums over all devices' examples whose mask is
    true, probabilities float32 [d, b, classes].
    """
    predict = make_predict(model_config, classes, temperature)

    def eval_step(variables, batch):
        views = VIEWS[tta](to_unit(batch["image"]))
        flat = views.reshape(-1, *views.shape[2:])
        probabilities = predict(variables, flat)
        probabilities = probabilities.reshape(*views.shape[:2], -1).mean(0)
        true = jnp.take_along_axis(probabilities, batch["label"][:, None], axis=-1)
        metrics = Metrics.gather_from_model_output(
            axis_name=parallel.AXIS,
            losses=-jnp.log(jnp.maximum(true[:, 0], 1e-12)),
            probabilities=probabilities,
            labels=batch["label"],
            mask=batch["mask"],
        )
        return metrics, probabilities

    return parallel.pmap_eval(eval_step)
