"""Prepared data sets by name: opening them, and reading a whole split.

    builder = load_builder("fer2013", "data")
    faces = load_split(builder, "public_test")     # {image, label, id}

A data set is prepared once, by scripts/prepare_data.py, as tfrecord (which TensorFlow
reads) or array_record (which needs no TensorFlow). `synthetic_faces` is drawn by code
and is prepared when it is first opened.
"""

import contextlib
import importlib.util
import io
import logging
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from deepfer_jax.data.fer2013 import Fer2013
from deepfer_jax.data.ferplus import FerPlus
from deepfer_jax.data.image_folder import ImageFolder, ImageFolderConfig
from deepfer_jax.data.synthetic.builder import SyntheticFaces
from deepfer_jax.errors import UserError

# Before TFDS or clu first import TensorFlow, which else fills the terminal with notes.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

_log = logging.getLogger(__name__)
_READ_BATCH = 512
_SPLIT_ORDER = ("train", "validation", "public_test", "private_test", "test")

BUILDERS: dict[str, type[tfds.core.GeneratorBasedBuilder]] = {
    "fer2013": Fer2013,
    "ferplus": FerPlus,
    "image_folder": ImageFolder,
    "synthetic_faces": SyntheticFaces,
}


def has_tensorflow() -> bool:
    """Whether it is installed; does not import it."""
    return importlib.util.find_spec("tensorflow") is not None


def import_tensorflow():
    """Returns TensorFlow, kept off the GPUs, whose memory it would take whole.

    The only way by which this package comes to use it: whatever makes TFDS or clu call
    TensorFlow calls this first.
    """
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    return tf


def default_file_format() -> str:
    """tfrecord where TensorFlow is installed, else array_record."""
    return "tfrecord" if has_tensorflow() else "array_record"


def create_builder(
    name: str,
    data_dir: str | os.PathLike,
    file_format: str | None = None,
    folder_config: ImageFolderConfig | None = None,
) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set, prepared or not.

    Args:
      name: a key of BUILDERS, or "key/builder_config".
      data_dir: where it is, or will be.
      file_format: "tfrecord" or "array_record" to prepare it; None to open what is
        there.
      folder_config: of image_folder, to prepare it.

    Raises:
      UserError: unknown name.
    """
    key, _, builder_config = name.partition("/")
    if key not in BUILDERS:
        raise UserError(f"data set: expected one of {sorted(BUILDERS)}, found {name!r}")
    cls = BUILDERS[key]
    config = builder_config or None
    if cls is ImageFolder:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", builder_config):
            raise UserError(
                "data set: expected image_folder/NAME with a name of letters, digits, "
                f"_ and -, found {name!r}"
            )
        config = folder_config or ImageFolderConfig(name=builder_config)
    elif builder_config and builder_config not in cls.builder_configs:
        raise UserError(
            f"data set {key}: expected one of {sorted(cls.builder_configs)} after the "
            f"'/', found {builder_config!r}"
        )
    with _no_absl_warnings():  # of a configuration that is not in a list
        return cls(
            config=config,
            data_dir=os.path.abspath(os.path.expanduser(data_dir)),
            file_format=file_format,
        )


@contextlib.contextmanager
def _no_absl_warnings():
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def load_builder(name: str, data_dir: str | os.PathLike) -> tfds.core.DatasetBuilder:
    """Opens a prepared data set, in the file format it has.

    Raises:
      UserError: unknown name, or it is not prepared there.
    """
    builder = create_builder(name, data_dir)
    if not builder.data_path.exists():
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise UserError(
                f"{name} is not prepared in {data_dir}: run\n"
                f"  python scripts/prepare_data.py --dataset {name} "
                "--manual_dir FOLDER_OF_FILES "
                f"--data_dir {shlex.quote(os.fspath(data_dir))}"
            )
        _log.info("drawing %s into %s, once", name, builder.data_path)
        builder = create_builder(name, data_dir, default_file_format())
        generate(builder, tfds.download.DownloadConfig())
    return open_prepared(builder.data_path)


def generate(builder: tfds.core.DatasetBuilder, config: Any) -> None:
    """Prepares a data set, with bars on a terminal and in silence elsewhere."""
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    with (
        tempfile.TemporaryDirectory() as downloads,
        contextlib.redirect_stdout(io.StringIO()),  # "Unknown size", "downloaded"
    ):
        builder.download_and_prepare(download_dir=downloads, download_config=config)


def open_prepared(folder: os.PathLike) -> tfds.core.DatasetBuilder:
    """Opens what is in a folder such as data/fer2013/1.0.0, in the format it has.

    Raises:
      UserError: the folder holds no whole data set.
    """
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # TFDS has an error of its own for each damaged file.
        raise UserError(
            f"{folder} holds no whole data set: remove that folder and prepare it "
            f"again ({error})"
        ) from error


def check_split(builder: tfds.core.DatasetBuilder, split: str) -> None:
    """Raises a UserError that names the splits there are."""
    if split not in builder.info.splits:
        raise UserError(
            f"{builder.info.full_name} in {builder.data_path}: expected a split of "
            f"{sorted(builder.info.splits)}, found {split!r}"
        )


def ordered_splits(builder: tfds.core.DatasetBuilder) -> list[str]:
    """Names of the splits there are, training first and tests last."""
    return sorted(builder.info.splits, key=_SPLIT_ORDER.index)


def iterate_batches(
    builder: tfds.core.DatasetBuilder, split: str
) -> Iterator[dict[str, Any]]:
    """Yields what `load_split` returns in parts, without holding the whole split.

    Raises:
      UserError: as for `load_split`; that faces are missing shows at the end.
    """
    check_split(builder, split)
    expected, num_read = builder.info.splits[split].num_examples, 0
    for batch in named(builder, split, _read_batches(builder, split)):
        num_read += len(batch["id"])
        yield batch
    if num_read != expected:
        raise UserError(
            f"{builder.data_path}, split {split}: expected {expected} faces, found "
            f"{num_read}: remove that folder and prepare it again"
        )


def named(
    builder: tfds.core.DatasetBuilder, split: str, items: Iterable[Any]
) -> Iterator[Any]:
    """Yields the items; what goes wrong in reading them is a UserError.

    Raises:
      UserError: a stored file is damaged; the readers have errors of many kinds.
    """
    try:
        yield from items
    except UserError:
        raise
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        name = builder.info.full_name.rpartition("/")[0]
        raise UserError(
            f"{builder.data_path}, split {split}: a stored file is damaged "
            f"({said[0][:200]}): remove that folder and prepare it again\n"
            f"  python scripts/prepare_data.py --dataset {name} ..."
        ) from error


def iterate_images(
    builder: tfds.core.DatasetBuilder, split: str
) -> Iterator[np.ndarray]:
    """Yields uint8 [H, W, C] in stored order, without holding the whole split."""
    for batch in iterate_batches(builder, split):
        yield from batch["image"]


def load_split(builder: tfds.core.DatasetBuilder, split: str) -> dict[str, Any]:
    """Reads a whole split, in stored order.

    Returns:
      image: uint8 [N, H, W, C]; label: int32 [N]; id: list of N strings; and target,
      float32 [N, classes], where the data set has soft labels.

    Raises:
      UserError: no such split, faces are missing, or tfrecord without TensorFlow.
    """
    check_split(builder, split)
    num = builder.info.splits[split].num_examples
    features = builder.info.features
    arrays = {
        "image": np.empty((num, *features["image"].shape), np.uint8),
        "label": np.empty(num, np.int32),
    }
    if "target" in features:
        arrays["target"] = np.empty((num, *features["target"].shape), np.float32)
    ids: list[str] = []
    for batch in iterate_batches(builder, split):
        part = slice(len(ids), len(ids) + len(batch["id"]))
        for name, array in arrays.items():
            array[part] = batch[name]
        ids += [name.decode() for name in batch["id"]]
    return arrays | {"id": ids}


def _read_batches(builder: tfds.core.DatasetBuilder, split: str):
    """Returns an iterable of {image, label, id} of many examples, in stored order."""
    if builder.info.file_format.value == "array_record":
        source = builder.as_data_source(
            split, decoders={"image": tfds.decode.SkipDecoding()}
        )
        shape = builder.info.features["image"].shape
        return (
            _decoded(
                source.__getitems__(range(i, min(i + _READ_BATCH, len(source)))), shape
            )
            for i in range(0, len(source), _READ_BATCH)
        )
    if not has_tensorflow():
        raise UserError(
            f"{builder.data_path} is in tfrecord, which needs TensorFlow: install it, "
            "or prepare the data again with --file_format array_record into another "
            "--data_dir"
        )
    import_tensorflow()
    # These data sets have disable_shuffling, for which TFDS reads the shards in order.
    batches = builder.as_dataset(
        split=split, shuffle_files=False, batch_size=_READ_BATCH
    )
    return batches.as_numpy_iterator()


def _decoded(examples: list[dict[str, Any]], shape) -> dict[str, list]:
    batch = {name: [example[name] for example in examples] for name in examples[0]}
    # TFDS would decode by Pillow too, after a warning that OpenCV is not installed.
    images = (Image.open(io.BytesIO(encoded)) for encoded in batch["image"])
    return batch | {"image": [np.asarray(image).reshape(shape) for image in images]}
