"""What one example of every data set here holds, and how its image is stored.

All builders share these features, so that the pipelines read any of them the same way.
Images are handed to TFDS as encoded PNG bytes: this needs no TensorFlow.
"""

import io
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from deepfer_jax.data.emotions import EMOTIONS


def face_features(
    size: int = 48,
    classes: Sequence[str] = EMOTIONS,
    soft: bool = False,
    channels: int = 1,
) -> tfds.features.FeaturesDict:
    """Returns the features of one example.

    image is uint8 [size, size, channels], label an index of `classes`, id text; `soft`
    adds target, a soft label: float32 [classes] that sums to 1.
    """
    features = {
        "image": tfds.features.Image(
            shape=(size, size, channels), dtype=np.uint8, encoding_format="png"
        ),
        "label": tfds.features.ClassLabel(names=classes),
        "id": tfds.features.Text(),
    }
    if soft:
        features["target"] = tfds.features.Tensor(
            shape=(len(classes),), dtype=np.float32
        )
    return tfds.features.FeaturesDict(features)


def encode_png(image: np.ndarray) -> io.BytesIO:
    """Encodes uint8 [H, W], [H, W, 1] or RGB [H, W, 3], losslessly."""
    if image.shape[-1] == 1:
        image = image[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png", compress_level=1)
    buffer.seek(0)
    return buffer
