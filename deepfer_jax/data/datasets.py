"""Prepared data sets by name: opening them, and reading a whole split.

    builder = load_builder("fer2013", "data")
    faces = load_split(builder, "public_test")     # {image, label, id}

A data set is prepared once, by scripts/prepare_data.py, as tfrecord (which TensorFlow
reads) or array_record (which needs no TensorFlow). `synthetic_faces` is drawn by code and
is prepared when it is first opened.
"""

import importlib.util
import logging
import os
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from deepfer_jax.data.fer2013 import Fer2013
from deepfer_jax.data.synthetic import SyntheticFaces
from deepfer_jax.errors import UserError

_log = logging.getLogger(__name__)

BUILDERS: dict[str, type[tfds.core.GeneratorBasedBuilder]] = {
    "fer2013": Fer2013,
    "synthetic_faces": SyntheticFaces,
}


def has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def default_file_format() -> str:
    """tfrecord where TensorFlow is installed, else array_record."""
    return "tfrecord" if has_tensorflow() else "array_record"


def create_builder(
    name: str, data_dir: str | os.PathLike, file_format: str
) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set, prepared or not.

    Args:
      name: a key of BUILDERS, or "key/builder_config".
      data_dir: where it is, or will be.
      file_format: "tfrecord" or "array_record".

    Raises:
      UserError: unknown name.
    """
    key, _, builder_config = name.partition("/")
    if key not in BUILDERS:
        raise UserError(f"data set: expected one of {sorted(BUILDERS)}, found {name!r}")
    cls = BUILDERS[key]
    if builder_config and builder_config not in cls.builder_configs:
        raise UserError(
            f"data set {key}: expected one of {sorted(cls.builder_configs)} after the "
            f"'/', found {builder_config!r}"
        )
    return cls(
        config=builder_config or None,
        data_dir=os.path.abspath(os.path.expanduser(data_dir)),
        file_format=file_format,
    )


def load_builder(name: str, data_dir: str | os.PathLike) -> tfds.core.DatasetBuilder:
    """Opens a prepared data set, in the file format it has.

    Raises:
      UserError: unknown name, or it is not prepared there.
    """
    builder = create_builder(name, data_dir, default_file_format())
    if not builder.data_path.exists():
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise UserError(
                f"{name} is not prepared in {data_dir}: run\n  python "
                f"scripts/prepare_data.py --dataset {name} --manual_dir FOLDER_OF_FILES "
                f"--data_dir {data_dir}"
            )
        _log.info("drawing %s into %s, once", name, builder.data_path)
        builder.download_and_prepare()
    return tfds.builder_from_directory(builder.data_path)


def check_split(builder: tfds.core.DatasetBuilder, split: str) -> None:
    """Raises a UserError that names the splits there are."""
    if split not in builder.info.splits:
        raise UserError(
            f"{builder.info.full_name} in {builder.data_path}: expected a split of "
            f"{sorted(builder.info.splits)}, found {split!r}"
        )


def load_split(builder: tfds.core.DatasetBuilder, split: str) -> dict[str, Any]:
    """Reads a whole split, in stored order.

    Returns:
      image: uint8 [N, H, W, C]; label: int32 [N]; id: list of N strings.

    Raises:
      UserError: no such split, or tfrecord without TensorFlow.
    """
    check_split(builder, split)
    num = builder.info.splits[split].num_examples
    image = np.empty((num, *builder.info.features["image"].shape), np.uint8)
    label, ids = np.empty(num, np.int32), []
    for i, example in enumerate(_read(builder, split)):
        image[i], label[i] = example["image"], example["label"]
        name = example["id"]
        ids.append(name.decode() if isinstance(name, bytes) else name)
    return {"image": image, "label": label, "id": ids}


def _read(builder: tfds.core.DatasetBuilder, split: str):
    if builder.info.file_format.value == "array_record":
        return iter(builder.as_data_source(split))
    if not has_tensorflow():
        raise UserError(
            f"{builder.data_path} is in tfrecord, which needs TensorFlow: install it, or "
            "prepare the data again with --file_format array_record into another "
            "--data_dir"
        )
    return builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator()
