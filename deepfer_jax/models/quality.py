"""How well a face can be read: what its network's features, light and size say of it.

    head = QualityHead()
    probabilities = head.apply({"params": variables["quality"]}, features)
    strengths = spoils(probabilities, images)            # [batch, 4]

A cause that spoils a face has a strength in [0, 1]. The face's quality is one less the
strongest; below QUALITY_THRESHOLD the cause is its reason, and the face is unsure.

Most mistakes on covered, blurred and noisy faces are made with a high probability:
softmax alone does not see them (Hendrycks & Gimpel 2017, arXiv:1610.02136). The
features before the classifier do, by a small network that is fitted on faces which were
spoiled on purpose (`evaluation.quality`), as Ren et al. 2021 (arXiv:2106.09022) and
others use their distance.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

# Where `classify` of models.layers leaves what a network knows before its classifier.
FEATURES = "features"
# What is learned, after "none".
LEARNED = ("covered", "blurred", "noisy")
# What `spoils` tells; of a network without a QualityHead only the latter.
UNLEARNED = ("dark",)
CAUSES = (*LEARNED, *UNLEARNED)
_HIDDEN = 32
# Standard deviation, in gray levels of 255, of a face that has few of them left: below,
# less than 85 % of those that seem sure are right (results/quality.json).
_DARK = 1.3


class QualityHead(nn.Module):
    """Probabilities that nothing, or one of LEARNED, makes the network misread a face.

    mean and scale (of features) are parameters too, so that all lies in one place.
    """

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Of features [batch, F]: float32 [batch, 1 + len(LEARNED)]."""
        mean = self.param("mean", nn.initializers.zeros, features.shape[-1:])
        scale = self.param("scale", nn.initializers.ones, features.shape[-1:])
        x = (features - mean[None]) / scale[None]
        x = nn.relu(nn.Dense(_HIDDEN, name="hidden")(x))
        return nn.softmax(nn.Dense(1 + len(LEARNED), name="head")(x))


def spoils(probabilities: jax.Array, images: jax.Array) -> jax.Array:
    """How strongly each of CAUSES spoils faces.

    The likeliest learned cause stands for all of them: its strength is the probability
    that any spoils the face.

    Args:
      probabilities: float [batch, 1 + len(LEARNED)], of a QualityHead.
      images: float [batch, H, W, C] in [0, 1], not normalised.

    Returns:
      float32 [batch, len(CAUSES)] in [0, 1].
    """
    causes = probabilities[:, 1:]
    likeliest = causes == causes.max(1, keepdims=True)
    learned = jnp.where(likeliest, 1 - probabilities[:, :1], causes)
    return jnp.concatenate([learned, darkness(images)[:, None]], axis=1)


def darkness(images: jax.Array) -> jax.Array:
    """How much of faces is lost because little light leaves few gray levels.

    Args:
      images: float [batch, H, W, C] in [0, 1].

    Returns:
      float32 [batch] in (0, 1]; 0.5 at a standard deviation of 1.3 of 255 gray levels.
    """
    deviation = images.std((1, 2, 3)) * 255
    return 1 / (1 + (deviation / _DARK) ** 2)
