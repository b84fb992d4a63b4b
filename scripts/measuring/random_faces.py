"""Noise in the place of faces, of any size, as a TFDS builder: for measuring speed.

builder = RandomFaces(96, data_dir=folder)
builder.download_and_prepare()
"""

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.features import encode_png, face_features


@dataclasses.dataclass(eq=False)
class RandomConfig(tfds.core.BuilderConfig):
    size: int = 48


class RandomFaces(tfds.core.GeneratorBasedBuilder):
    """Gray noise of equal height and width, in a split called "train".

    Args:
      size: height and width in pixels.
      num_faces: examples; labels are balanced and interleaved.
      **options: of every TFDS builder, such as data_dir.
    """

    name = "random_faces"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}

    def __init__(self, size: int, num_faces: int = 1024, **options):
        self._num_faces = num_faces
        config = RandomConfig(name=str(size), size=size)
        super().__init__(config=config, **options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=face_features(self.builder_config.size),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        size = self.builder_config.size
        rng = np.random.default_rng(0)
        for index in range(self._num_faces):
            image = rng.integers(0, 256, (size, size)).astype(np.uint8)
            label = EMOTIONS[index % len(EMOTIONS)]
            yield index, {"image": encode_png(image), "label": label, "id": str(index)}
