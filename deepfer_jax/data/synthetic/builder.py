"""Faces drawn by code, as a TFDS builder: data for tests, demonstrations and teaching.

    builder = SyntheticFaces(data_dir="data")          # or config="small"
    builder.download_and_prepare()

    face = draw_face(np.random.default_rng(0), "happy")     # uint8 [48, 48]

They need no download and no licence, are the same on every machine, and are hard enough
to learn from: pose, person and light vary so much that a linear classifier of pixels
fails where a small convolutional network succeeds. They say nothing about real faces.
"""

import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.features import encode_png, face_features
from deepfer_jax.data.synthetic.canvas import SIZE, Canvas
from deepfer_jax.data.synthetic.drawing import draw_head
from deepfer_jax.data.synthetic.light import expose
from deepfer_jax.data.synthetic.sampling import (
    sample_action_units,
    sample_person,
    sample_pose,
)

SPLITS = ("train", "validation", "test")


def draw_face(rng: np.random.Generator, emotion: str) -> np.ndarray:
    """Draws a random person who shows an emotion.

    Equal seeds with different emotions give the same person, pose and light.

    Args:
      rng: random generator; all randomness comes from it.
      emotion: a name of EMOTIONS.

    Returns:
      uint8 [48, 48], gray.

    Raises:
      ValueError: unknown emotion.
    """
    units = sample_action_units(rng, emotion)
    person, pose = sample_person(rng), sample_pose(rng)
    canvas = Canvas(pose, background=rng.uniform(0.05, 0.95))
    draw_head(canvas, person, units)
    return expose(rng, canvas.reduced(), person, pose, units)


def draw_example(seed: int, split: str, index: int) -> tuple[np.ndarray, str]:
    """Returns the image and the emotion of one example; nothing else decides them."""
    emotion = EMOTIONS[index % len(EMOTIONS)]
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    return draw_face(rng, emotion), emotion


@dataclasses.dataclass(eq=False)
class SyntheticConfig(tfds.core.BuilderConfig):
    """How many faces each split has; classes are balanced and interleaved."""

    num_train: int = 5600
    num_validation: int = 1400
    num_test: int = 1400
    seed: int = 0


class SyntheticFaces(tfds.core.GeneratorBasedBuilder):
    """Faces of 48x48 pixels, gray, of seven emotions, drawn by code."""

    name = "synthetic_faces"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [
        SyntheticConfig(name="full", description="5,600 / 1,400 / 1,400 faces."),
        SyntheticConfig(
            name="small",
            description="The first 280 / 140 / 140 faces of full, for tests.",
            num_train=280,
            num_validation=140,
            num_test=140,
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=face_features(SIZE),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        config = self.builder_config
        numbers = (config.num_train, config.num_validation, config.num_test)
        return {
            split: self._generate_examples(split, number)
            for split, number in zip(SPLITS, numbers, strict=True)
        }

    def _generate_examples(self, split: str, number: int):
        for index in range(number):
            image, emotion = draw_example(self.builder_config.seed, split, index)
            name = f"{split}_{index:05d}"
            yield index, {"image": encode_png(image), "label": emotion, "id": name}
