"""FER+: the faces of FER2013 with the ten votes that Microsoft gathered for each.

    builder = FerPlus(config="majority", data_dir="data")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir="downloads"))

In the manual folder stand fer2013.csv (as for fer2013) and fer2013new.csv, a row of
votes for each of its rows. Barsoum et al. 2016, "Training Deep Networks for Facial
Expression Recognition with Crowd-Sourced Label Distribution" (arXiv:1608.01041); the
rules are those of the code they published:

- a face whose row names no image is left out, as there;
- a class with a single vote of the ten is an outlier: that vote is dropped;
- majority: the class with more than half of the votes that are left; a face without
  one (every tie is such), or whose majority is `unknown` or `NF` (not a face), is left
  out;
- distribution: classes by falling votes, ties together, until three quarters of the
  votes or three classes are reached. `unknown` or `NF` ends it, and leaves the face out
  if it comes first; so do more than three classes (by a tie), or half of the votes or
  fewer. The votes that were taken, divided by their sum, are the soft label, `target`.

Validation and test splits are always those of the majority rule. Configurations:

- majority: eight classes, ours and contempt;
- distribution: the same classes, `target` in every split (one-hot for the majority);
- distribution7: our seven classes, without votes for contempt: its networks can be
  evaluated on fer2013 and the other way round.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.features import encode_png, face_features
from deepfer_jax.data.fer2013 import (
    CSV_NAMES,
    SIZE,
    SPLITS,
    WHERE_TO_GET,
    CsvSource,
    Face,
)
from deepfer_jax.errors import UserError

VOTES_NAME = "fer2013new.csv"
# The columns of the votes: FER+'s name -> ours; unknown and NF come last.
COLUMNS = {
    "neutral": "neutral",
    "happiness": "happy",
    "surprise": "surprise",
    "sadness": "sad",
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "contempt": "contempt",
}
_NO_EMOTION = ("unknown", "NF")
CLASSES = (*EMOTIONS, "contempt")
_WHERE_TO_GET_VOTES = (
    f"FER+ needs {VOTES_NAME} (github.com/microsoft/FERPlus) beside FER2013's csv. "
)


def without_outliers(votes: np.ndarray) -> np.ndarray:
    """Drops single votes: int [10] -> int [10]."""
    return np.where(votes > 1, votes, 0)


def majority(votes: np.ndarray) -> int | None:
    """The class with more than half of the votes, None if the face is left out.

    Args:
      votes: int [10], of the classes, unknown and not-a-face.
    """
    votes = without_outliers(votes)
    best = int(votes.argmax())
    if 2 * votes[best] <= votes.sum() or best >= len(votes) - len(_NO_EMOTION):
        return None
    return best


def distribution(votes: np.ndarray) -> np.ndarray | None:
    """Soft label float32 [classes] that sums to 1, None if the face is left out.

    Args:
      votes: int [10], of the classes, unknown and not-a-face.
    """
    votes = without_outliers(votes)
    num_classes = len(votes) - len(_NO_EMOTION)
    total, taken = votes.sum(), np.zeros(num_classes)
    for level in sorted(set(votes[votes > 0]), reverse=True):
        if 4 * taken.sum() >= 3 * total or np.count_nonzero(taken) >= 3:
            break
        chosen = votes == level
        taken[chosen[:num_classes]] = level
        if chosen[num_classes:].any():
            break
    if 2 * taken.sum() <= total or np.count_nonzero(taken) > 3:
        return None
    return (taken / taken.sum()).astype(np.float32)


@dataclasses.dataclass(eq=False)
class FerPlusConfig(tfds.core.BuilderConfig):
    """classes: names of labels; soft: whether train faces have a distribution."""

    classes: tuple[str, ...] = CLASSES
    soft: bool = False


class FerPlus(tfds.core.GeneratorBasedBuilder):
    """The faces of FER2013 labelled by ten people each."""

    name = "ferplus"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = _WHERE_TO_GET_VOTES + WHERE_TO_GET
    BUILDER_CONFIGS: ClassVar = [
        FerPlusConfig(name="majority", description="Eight classes, hard labels."),
        FerPlusConfig(
            name="distribution", description="Eight classes, soft labels.", soft=True
        ),
        FerPlusConfig(
            name="distribution7",
            description="Our seven classes, soft labels.",
            classes=EMOTIONS,
            soft=True,
        ),
    ]

    def open_source(self, folder: pathlib.Path) -> "FerPlusSource":
        """Returns the two files; raises a UserError where one is missing."""
        return FerPlusSource(folder)

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=face_features(SIZE, classes=config.classes, soft=config.soft),
            supervised_keys=("image", "label"),
            homepage="https://arxiv.org/abs/1608.01041",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        source = self.open_source(pathlib.Path(dl_manager.manual_dir))
        return {
            SPLITS[usage]: self._generate_examples(source, usage)
            for usage in source.usages()
        }

    def _generate_examples(self, source, usage: str):
        config = self.builder_config
        soft = config.soft and usage == "Training"
        columns = [list(COLUMNS.values()).index(name) for name in config.classes]
        columns += [len(COLUMNS), len(COLUMNS) + 1]
        for index, (face, votes) in enumerate(source.faces(usage)):
            target = soft_label(votes[columns], soft)
            if target is None:
                continue
            example = {
                "image": encode_png(face.image),
                "label": int(target.argmax()),
                "id": face.id,
            }
            yield index, example | ({"target": target} if config.soft else {})


def soft_label(votes: np.ndarray, soft: bool) -> np.ndarray | None:
    """float32 [classes] by one of the two rules, or None: the face is left out."""
    if soft:
        return distribution(votes)
    label = majority(votes)
    return None if label is None else np.eye(len(votes) - 2, dtype=np.float32)[label]


class FerPlusSource:
    """The two csv files side by side.

    Raises:
      UserError: one is missing, or they do not belong together.
    """

    notes = ()

    def __init__(self, folder: pathlib.Path):
        names = [name for name in CSV_NAMES if (folder / name).is_file()]
        if not names:
            raise UserError(
                f"{folder} holds no {' or '.join(CSV_NAMES)}. {WHERE_TO_GET}"
            )
        self._path = folder / VOTES_NAME
        if not self._path.is_file():
            raise UserError(f"{self._path} is missing. {_WHERE_TO_GET_VOTES}")
        self._faces = CsvSource(folder / names[0])
        self._rows = self._read_votes()

    def usages(self) -> list[str]:
        """Those that occur in the faces' file, which is checked."""
        return self._faces.usages()

    def faces(self, usage: str) -> Iterator[tuple[Face, np.ndarray]]:
        """Yields (face, votes int [10]) of those of one Usage that FER+ names."""
        for face in self._faces.faces(usage):
            number = int(face.id.rpartition("_")[2])
            if number >= len(self._rows):
                raise UserError(
                    f"{self._path}: expected a row for each face, found "
                    f"{len(self._rows)} rows and the face {face.id}"
                )
            row = self._rows[number]
            if row["Usage"] != usage:
                raise UserError(
                    f"{self._path}, line {number + 2}: Usage: expected {usage}, as the "
                    f"face has it, found {row['Usage']!r}"
                )
            if row["Image name"]:
                yield face, row["votes"]

    def _read_votes(self) -> list[dict]:
        names = (*COLUMNS, *_NO_EMOTION)
        with self._path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"Usage", "Image name", *names} - set(reader.fieldnames or ())
            if missing:
                raise UserError(
                    f"{self._path}, line 1: the columns {', '.join(sorted(missing))} "
                    "are missing"
                )
            rows = list(reader)
        for line, row in enumerate(rows, 2):
            try:
                row["votes"] = np.array([int(row[name]) for name in names])
            except (TypeError, ValueError):
                raise UserError(
                    f"{self._path}, line {line}: expected ten whole numbers of votes"
                ) from None
        return rows
