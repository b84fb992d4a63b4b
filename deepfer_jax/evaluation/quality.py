"""Fits what tells faces that a network cannot read: covered, blurred, noisy ones.

    quality = fit_quality(trained, train, validation, threshold, temperature)

Faces of the training split are spoiled on purpose; a small network on the features
(`models.quality.QualityHead`) learns which of them are then misread, and by what. It is
shifted so that it calls few of the validation split's faces unsure, which are as they
are. None of what spoils them is a corruption that robustness is measured by
(`evaluation.corruptions`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from deepfer_jax.data.augment import random_blur, random_cover, random_noise
from deepfer_jax.data.split import Split
from deepfer_jax.evaluation.calibration import scale
from deepfer_jax.evaluation.predict import make_read_features
from deepfer_jax.models.preprocess import to_unit
from deepfer_jax.models.quality import QualityHead
from deepfer_jax.runs.trained import TrainedModel

# Share of the validation faces that turn unsure because they seem spoiled: so many that
# of those that stay sure 85 % and more are right under every corruption of severity 3.
COST = 0.07
_MOST_FACES = 28_000
# Each face is read twice as it is, and as often spoiled.
_ROUNDS = 6
_AS_THEY_ARE = 2
_STEPS, _BATCH = 6000, 1024


def fit_quality(
    trained: TrainedModel,
    train: Split,
    validation: Split,
    threshold: float,
    temperature: float,
    batch_size: int = 256,
) -> dict[str, Any]:
    """Fits a QualityHead to a trained network.

    Args:
      trained: the network.
      train: faces that are spoiled, at most 28,000 of them.
      validation: faces that are not: they choose the shift.
      threshold: probability below which a face is unsure.
      temperature: by which logits are divided before.
      batch_size: faces a call.

    Returns:
      Parameters of the head.

    Raises:
      UserError: a network that keeps no features.
    """
    read = jax.jit(make_read_features(trained.model_config, trained.classes))

    def read_all(images, kinds, key):
        keys = jax.random.split(key, len(images))
        logits, features = [], []
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            spoiled = _spoil(keys[part], jnp.asarray(images[part]), kinds[part])
            some = jax.device_get(read(trained.variables, to_unit(spoiled)))
            logits.append(some[0])
            features.append(some[1])
        return np.concatenate(logits), np.concatenate(features)

    images, labels = _faces(train, _MOST_FACES)
    rng, rounds = np.random.default_rng(0), []
    for i in range(_ROUNDS):
        first = 0 if i < _AS_THEY_ARE else 1
        kinds = rng.integers(first, len(_KINDS) if first else 1, len(labels))
        logits, features = read_all(images, kinds, jax.random.key(i))
        wrong = logits.argmax(1) != labels
        rounds.append((features, np.where(wrong, kinds, 0)))
    features, causes = (np.concatenate(x) for x in zip(*rounds, strict=True))
    variables = _fit_head(features, causes)

    images, _ = _faces(validation, None)
    kinds = np.zeros(len(images), int)
    logits, features = read_all(images, kinds, jax.random.key(0))
    probabilities = scale(np.asarray(jax.nn.softmax(logits)), temperature)
    sure = probabilities.max(1) >= threshold
    return _shift(variables, features, sure)


def _faces(split: Split, most: int | None) -> tuple[np.ndarray, np.ndarray]:
    images = np.concatenate([batch["image"] for batch in split.in_order(256)])
    labels = np.asarray(split.labels)
    if most is None or len(labels) <= most:
        return images, labels
    chosen = np.random.default_rng(0).choice(len(labels), most, replace=False)
    return images[chosen], labels[chosen]


def random_ellipse(key: jax.Array, image: jax.Array) -> jax.Array:
    """Hides an ellipse of one gray value: a hand, hair, a microphone.

    Its centre lies in the middle 0.8 of the image; its radii are 0.1 to 0.4 of it, and
    it is turned at random.

    Args and returns: float [H, W, C] in [0, 1].
    """
    keys = jax.random.split(key, 4)
    centre = jax.random.uniform(keys[0], (2,), minval=0.1, maxval=0.9)
    radii = jax.random.uniform(keys[1], (2,), minval=0.1, maxval=0.4)
    angle = jax.random.uniform(keys[2], maxval=jnp.pi)
    height, width = image.shape[:2]
    y = ((jnp.arange(height) + 0.5) / height - centre[0])[:, None, None]
    x = ((jnp.arange(width) + 0.5) / width - centre[1])[None, :, None]
    along = (y * jnp.cos(angle) + x * jnp.sin(angle)) / radii[0]
    across = (x * jnp.cos(angle) - y * jnp.sin(angle)) / radii[1]
    inside = along**2 + across**2 < 1
    return jnp.where(inside, jax.random.uniform(keys[3]), image)


def _cover(key: jax.Array, image: jax.Array) -> jax.Array:
    choice, key = jax.random.split(key)
    covers = (random_cover(key, image, 1.0), random_ellipse(key, image))
    return jnp.where(jax.random.bernoulli(choice), *covers)


# In the order of quality.LEARNED, after faces as they are.
_KINDS = (
    lambda key, image: image,
    _cover,
    lambda key, image: random_blur(key, image, 1.0),
    lambda key, image: random_noise(key, image, 1.0),
)


@jax.jit
def _spoil(keys: jax.Array, images: jax.Array, kinds: jax.Array) -> jax.Array:
    """Spoils faces uint8 [b, H, W, C], each by its kind, as uint8 again."""

    def spoil(key, image, kind):
        image = jax.lax.switch(kind, _KINDS, key, to_unit(image))
        return jnp.rint(255 * jnp.clip(image, 0, 1)).astype(jnp.uint8)

    return jax.vmap(spoil)(keys, images, kinds)


def _fit_head(features: np.ndarray, causes: np.ndarray) -> dict[str, Any]:
    """Fits a QualityHead by cross-entropy; `causes` are 0 or a kind, int [n]."""
    head = QualityHead()
    variables = head.init(jax.random.key(0), features[:1])["params"]
    scales = features.std(0) + 1e-6
    fixed = {"mean": jnp.asarray(features.mean(0)), "scale": jnp.asarray(scales)}
    layers = {name: variables[name] for name in ("hidden", "head")}
    optimizer = optax.adamw(
        optax.cosine_decay_schedule(3e-3, _STEPS), weight_decay=1e-2
    )

    @jax.jit
    def step(layers, state, features, causes):
        def loss(layers):
            probabilities = head.apply({"params": layers | fixed}, features)
            true = jnp.take_along_axis(probabilities, causes[:, None], axis=1)
            return -jnp.log(jnp.maximum(true, 1e-12)).mean()

        updates, state = optimizer.update(jax.grad(loss)(layers), state, layers)
        return optax.apply_updates(layers, updates), state

    state, rng = optimizer.init(layers), np.random.default_rng(0)
    for _ in range(_STEPS):
        some = rng.integers(0, len(causes), _BATCH)
        layers, state = step(layers, state, features[some], causes[some])
    return layers | fixed


def _shift(
    variables: dict[str, Any], features: np.ndarray, sure: np.ndarray
) -> dict[str, Any]:
    """Moves the bias of "none" so that COST of all faces fall from sure to spoiled."""
    if not sure.any():
        return variables
    none = np.asarray(QualityHead().apply({"params": variables}, features))[:, 0]
    none = np.clip(none.astype(np.float64), 1e-12, 1 - 1e-12)
    odds = np.log(none) - np.log1p(-none)
    lowest = np.sort(odds[sure])
    at = min(round(COST * len(features)), len(lowest) - 1)
    bias = variables["head"]["bias"]
    moved = variables["head"] | {"bias": bias.at[0].add(-lowest[at])}
    return variables | {"head": moved}
