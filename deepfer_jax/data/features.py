"""What one example of every data set here holds, and how its image is stored.

All builders share these features, so that the pipelines read any of them the same way.
Images are handed to TFDS as encoded PNG bytes: this needs no TensorFlow.
"""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from deepfer_jax.data.emotions import EMOTIONS


def face_features(size: int = 48) -> tfds.features.FeaturesDict:
    """Returns image uint8 [size, size, 1], label (index of EMOTIONS) and id (text)."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(
                shape=(size, size, 1), dtype=np.uint8, encoding_format="png"
            ),
            "label": tfds.features.ClassLabel(names=EMOTIONS),
            "id": tfds.features.Text(),
        }
    )


def encode_png(image: np.ndarray) -> io.BytesIO:
    """Encodes a gray image, uint8 [height, width], losslessly."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png", compress_level=1)
    buffer.seek(0)
    return buffer
