"""Prepares a data set once, and says what is in it.

    counts = prepare("fer2013", "downloads", "data", "tfrecord")

Printed: faces by split and class, whether those are the official numbers, and exact
duplicates; on a terminal, a bar while it works. If anything is wrong, nothing
half-prepared stays behind.
"""

import contextlib
import importlib.util
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from deepfer_jax.data import datasets
from deepfer_jax.data.audit import count_groups, digest
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.fer2013 import OFFICIAL_COUNTS
from deepfer_jax.data.image_folder import folder_config, import_beam
from deepfer_jax.errors import UserError

# Of errors that come from a process of Beam's: as a text, and with the step's name.
_OF_A_WORKER = re.compile(r"^deepfer_jax\.errors\.UserError: (.*)$", re.MULTILINE)
_WHERE = re.compile(r" \[while running '.*")


def prepare(
    dataset: str,
    manual_dir: str | None,
    data_dir: str,
    file_format: str,
    beam_options: str | None = None,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Prepares and describes a data set; one that is there already is only described.

    Args:
      dataset: a name for `datasets.create_builder`.
      manual_dir: folder of the files that the user got; not needed by synthetic_faces.
      data_dir: where the prepared data goes.
      file_format: "tfrecord" or "array_record".
      beam_options: options of Apache Beam, such as "runner=DirectRunner,
        direct_num_workers=4", to prepare an image_folder with it; None for none.
      **options: fields of image_folder.ImageFolderConfig, for such a data set.

    Returns:
      int [classes], faces by class, for each split.

    Raises:
      UserError: the input is missing or wrong, or TensorFlow is missing for tfrecord.
    """
    key, _, name = dataset.partition("/")
    given = [*options, *(["beam_options"] if beam_options is not None else [])]
    if given and key != "image_folder":
        raise UserError(
            f"{', '.join(f'--{option}' for option in given)}: only of a data set "
            f"image_folder/NAME, found {dataset}"
        )
    builder = datasets.create_builder(dataset, data_dir)
    if builder.data_path.exists():
        builder = datasets.open_prepared(builder.data_path)
        stored = builder.info.file_format.value
        if stored != file_format:
            raise UserError(
                f"{builder.data_path} is prepared as {stored}: give another --data_dir "
                f"for {file_format}"
            )
        _check_same_options(builder, options)
        print(f"{dataset} is prepared already: {builder.data_path}")
    else:
        _check_file_format(file_format)
        folder = _manual_folder(builder, manual_dir)
        config = None
        if key == "image_folder" and folder is not None:
            config = folder_config(name, folder, **options)
        builder = datasets.create_builder(dataset, data_dir, file_format, config)
        _download_and_prepare(builder, folder, beam_options)
    splits = {
        name: _read_split(builder, name) for name in datasets.ordered_splits(builder)
    }
    classes = builder.info.features["label"].names
    counts = {
        name: np.bincount(split["label"], minlength=len(classes))
        for name, split in splits.items()
    }
    print(format_counts(counts, classes))
    if builder.name == "fer2013":
        print(compare_with_official(counts))
    print(describe_duplicates(splits))
    return counts


def _check_file_format(file_format: str) -> None:
    if file_format == "tfrecord" and not datasets.has_tensorflow():
        raise UserError(
            "tfrecord needs TensorFlow, which is not installed: use --file_format "
            "array_record"
        )
    if file_format == "array_record" and not importlib.util.find_spec("array_record"):
        raise UserError(
            "array_record needs the package array_record, which is not installed: use "
            "--file_format tfrecord"
        )


def _check_same_options(builder, options: dict[str, Any]) -> None:
    """Those given now, against those that the data was prepared with."""
    differ = [
        f"--{name} {builder.info.metadata[name]} and not {value}"
        for name, value in options.items()
        if builder.info.metadata[name] != value
    ]
    if differ:
        raise UserError(
            f"{builder.data_path} is prepared already, with {', '.join(differ)}: "
            "choose another name, or remove that folder"
        )


def _read_split(builder, split: str) -> dict[str, Any]:
    """{label: int [N], digest: N of them}: the images may be larger than memory."""
    labels: list[np.ndarray] = []
    digests: list[bytes] = []
    for batch in datasets.iterate_batches(builder, split):
        labels.append(batch["label"])
        digests += map(digest, batch["image"])
    return {"label": np.concatenate(labels), "digest": digests}


def _manual_folder(builder, manual_dir: str | None) -> pathlib.Path | None:
    """Where the user's files are; None for a data set that is drawn by code."""
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if not instructions:
        return None
    if manual_dir is None:
        raise UserError(f"--manual_dir is missing. {instructions}")
    folder = pathlib.Path(manual_dir).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. {instructions}")
    return folder


def _download_and_prepare(
    builder, folder: pathlib.Path | None, beam_options: str | None
) -> None:
    config = tfds.download.DownloadConfig()
    if folder is not None:
        for note in builder.open_source(folder).notes:
            print(note)
        config = tfds.download.DownloadConfig(manual_dir=folder)
    file_format = builder.info.file_format.value
    print(f"preparing {builder.data_path} as {file_format}", flush=True)
    start = time.perf_counter()
    try:
        with _set_up_beam(builder, config, beam_options):
            datasets.generate(builder, config)
    except Exception as error:
        _remove_empty_folders(builder)
        raise _user_error(error) from None
    print(f"prepared in {time.perf_counter() - start:.0f} s")


@contextlib.contextmanager
def _set_up_beam(builder, config: Any, beam_options: str | None) -> Iterator[None]:
    """Has the builder use Beam, with a folder for its lists beside the data."""
    if beam_options is None:
        yield
        return
    beam = import_beam()
    flags = [f"--{option.strip()}" for option in beam_options.split(",") if option]
    config.beam_options = beam.options.pipeline_options.PipelineOptions(flags=flags)
    builder.data_dir_root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=builder.data_dir_root) as lists:
        builder.beam_folder = pathlib.Path(lists)
        yield


def _user_error(error: BaseException) -> BaseException:
    """The cause that a person can mend, whatever TFDS or Beam wrapped around it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return UserError(_WHERE.sub("", str(cause)))
        if isinstance(cause, OSError):
            return UserError(f"cannot prepare the data: {cause}")
        cause = cause.__cause__ or cause.__context__
    if said := _OF_A_WORKER.search(str(error)):
        return UserError(_WHERE.sub("", said[1]))
    return error


def _remove_empty_folders(builder) -> None:
    """Those that TFDS makes on the way to data_path, below data_dir."""
    for folder in builder.data_path.parents:
        if folder == builder.data_dir_root:
            return
        if folder.exists() and {p.name for p in folder.iterdir()} <= {".config"}:
            shutil.rmtree(folder)


def format_counts(counts: dict[str, np.ndarray], classes: Sequence[str]) -> str:
    """A table: a row a split, a column a class."""
    rows = [("", *classes, "all")]
    rows += [
        (split, *(f"{n:,}" for n in (*row, row.sum()))) for split, row in counts.items()
    ]
    widths = [max(10, len(name) + 2) for name in rows[0][1:]]
    return "\n".join(
        f"{row[0]:<14}" + "".join(map(str.rjust, row[1:], widths)) for row in rows
    )


def compare_with_official(counts: dict[str, np.ndarray]) -> str:
    """Says which splits have FER2013's official numbers of faces."""
    lines = []
    for split, official in OFFICIAL_COUNTS.items():
        if split not in counts:
            lines.append(f"{split}: not in these files")
        elif tuple(counts[split]) == official:
            lines.append(f"{split}: the official number of faces of every class")
        else:
            differences = ", ".join(
                f"{name} {count - expected:+,}"
                for name, count, expected in zip(
                    EMOTIONS, counts[split], official, strict=True
                )
                if count != expected
            )
            lines.append(
                f"warning: {split} differs from the official number of faces: "
                f"{differences}"
            )
    return "\n".join(lines)


def describe_duplicates(splits: dict[str, dict[str, Any]]) -> str:
    """Counts faces whose pixels are the same, within and across splits.

    Args:
      splits: name -> {label: int [N], digest: of each face's pixels}.
    """
    digests = [digest for split in splits.values() for digest in split["digest"]]
    _, groups = np.unique(digests, return_inverse=True)
    names = [name for name, split in splits.items() for _ in split["label"]]
    labels = np.concatenate([split["label"] for split in splits.values()]).tolist()
    counts = count_groups(groups, names, labels)
    return (
        f"exact duplicates: {counts['groups']:,} groups of {counts['faces']:,} faces; "
        f"{counts['across_splits']:,} groups lie across splits, "
        f"{counts['conflicting_labels']:,} have conflicting labels"
    )
