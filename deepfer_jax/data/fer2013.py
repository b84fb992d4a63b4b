"""FER2013 as a TFDS builder, from the csv file or the folders in which people have it.

    builder = Fer2013(data_dir="data")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir="downloads"))

In the manual folder stands fer2013.csv or icml_face_data.csv (columns emotion, pixels
and Usage in any order), or the folders train/<emotion>/ and test/<emotion>/, these also
inside a folder images/. The folder test/ holds the official public and private test
faces together: a file's name says which (PublicTest_..., PrivateTest_...).

Every split keeps the order of the csv, or of the sorted paths. An id is Usage_row, such
as PublicTest_28709 (rows count from 0 over the whole csv, as those of FER+ do), or the
path of the image without its suffix.

Goodfellow et al. 2013, "Challenges in Representation Learning" (arXiv:1307.0414).
"""

import csv
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from deepfer_jax.data.emotions import EMOTIONS, emotion_of
from deepfer_jax.data.features import encode_png, face_features
from deepfer_jax.errors import UserError

SIZE = 48
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
SPLITS = {
    "Training": "train",
    "PublicTest": "public_test",
    "PrivateTest": "private_test",
}
# The official number of faces of each class, in the order of EMOTIONS.
OFFICIAL_COUNTS = {
    "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "public_test": (467, 56, 496, 895, 653, 415, 607),
    "private_test": (491, 55, 528, 879, 594, 416, 626),
}
_LABELS = {str(label): label for label in range(len(EMOTIONS))}
_PIXELS = {str(value): value for value in range(256)}
WHERE_TO_GET = (
    "FER2013 cannot be downloaded automatically: get fer2013.csv from the Kaggle "
    "competition 'Challenges in Representation Learning: Facial Expression Recognition "
    "Challenge' (or the folders of the Kaggle data set msambare/fer2013), and give the "
    "folder it is in as --manual_dir"
)


class Face(NamedTuple):
    """image: uint8 [48, 48]; label: a name of EMOTIONS; id: names the row or file."""

    image: np.ndarray
    label: str
    id: str


class Fer2013(tfds.core.GeneratorBasedBuilder):
    """35,887 faces of 48x48 pixels, gray, of seven emotions."""

    name = "fer2013"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = WHERE_TO_GET

    def open_source(self, folder: pathlib.Path) -> "CsvSource | FolderSource":
        """Returns what there is to read; raises a UserError where there is nothing."""
        return find_source(folder)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=face_features(SIZE),
            supervised_keys=("image", "label"),
            homepage="https://arxiv.org/abs/1307.0414",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        source = self.open_source(pathlib.Path(dl_manager.manual_dir))
        return {
            SPLITS[usage]: self._generate_examples(source, usage)
            for usage in source.usages()
        }

    def _generate_examples(self, source, usage: str):
        for index, face in enumerate(source.faces(usage)):
            yield (
                index,
                {"image": encode_png(face.image), "label": face.label, "id": face.id},
            )


def find_source(folder: pathlib.Path) -> "CsvSource | FolderSource":
    """Returns what there is to read in the manual folder.

    Raises:
      UserError: nothing; it says where to get the data and where to put it.
    """
    for name in CSV_NAMES:
        if (folder / name).is_file():
            return CsvSource(folder / name)
    for images in (folder, folder / "images"):
        if (images / "train").is_dir():
            return FolderSource(images)
    raise UserError(
        f"{folder} holds neither {' nor '.join(CSV_NAMES)} nor a folder train/. "
        + WHERE_TO_GET
    )


class CsvSource:
    """The csv file, read row by row."""

    notes = ()

    def __init__(self, path: pathlib.Path):
        self._path = path

    def usages(self) -> list[str]:
        """Those that occur, in the order of SPLITS; checks all but the pixels.

        Raises:
          UserError: names the line and the field that is wrong.
        """
        counts = {usage: np.zeros(len(EMOTIONS), int) for usage in SPLITS}
        for row in self._rows():
            counts[row.usage][row.emotion] += 1
        if not any(count.any() for count in counts.values()):
            raise UserError(f"{self._path} has a header but no rows")
        if not counts["Training"].any():
            raise UserError(f"{self._path}: no row has the Usage 'Training'")
        _check_classes(self._path, counts["Training"])
        return [usage for usage in SPLITS if counts[usage].any()]

    def faces(self, usage: str) -> Iterator[Face]:
        """Yields those of one Usage, in the order of the file."""
        for index, row in enumerate(self._rows()):
            if row.usage == usage:
                yield Face(
                    _parse_pixels(row.pixels, row.where),
                    EMOTIONS[row.emotion],
                    f"{usage}_{index:05d}",
                )

    def _rows(self) -> Iterator["_Row"]:
        with self._path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            try:
                yield from self._checked_rows(reader)
            except (csv.Error, UnicodeDecodeError) as error:
                where = f"{self._path}, near line {reader.line_num + 1}"
                raise UserError(f"{where}: not a csv file ({error})") from None

    def _checked_rows(self, reader) -> Iterator["_Row"]:
        header = [name.strip().lower() for name in next(reader, [])]
        if not header:
            raise UserError(f"{self._path} is empty")
        if not {"emotion", "pixels", "usage"} <= set(header):
            found = ", ".join(name[:20] for name in header[:5])
            raise UserError(
                f"{self._path}, line 1: expected the columns emotion, pixels and "
                f"Usage, found {found}"
            )
        columns = [header.index(name) for name in ("emotion", "pixels", "usage")]
        for row in reader:
            if not row:
                continue
            where = f"{self._path}, line {reader.line_num}"
            if len(row) != len(header):
                raise UserError(
                    f"{where}: expected {len(header)} fields, found {len(row)}"
                )
            emotion, pixels, usage = (row[i].strip() for i in columns)
            if emotion not in _LABELS:
                raise UserError(
                    f"{where}: emotion: expected 0 to 6, found {emotion[:20]!r}"
                )
            if usage not in SPLITS:
                raise UserError(
                    f"{where}: Usage: expected {', '.join(SPLITS)}, found "
                    f"{usage[:20]!r}"
                )
            yield _Row(where, _LABELS[emotion], pixels, usage)


class _Row(NamedTuple):
    """where: the file and line; emotion: 0 to 6; pixels: not yet parsed."""

    where: str
    emotion: int
    pixels: str
    usage: str


def _parse_pixels(text: str, where: str) -> np.ndarray:
    """Returns uint8 [48, 48] of 2,304 numbers separated by spaces."""
    values = text.split()
    if len(values) != SIZE * SIZE:
        raise UserError(
            f"{where}: pixels: expected {SIZE * SIZE} numbers, found {len(values)}"
        )
    try:
        # Looking up is as fast as int(), and refuses -1, 256, 1.0, 1_0 and the like.
        pixels = bytes([_PIXELS[value] for value in values])
    except KeyError as error:
        raise UserError(
            f"{where}: pixels: expected whole numbers from 0 to 255, found "
            f"{error.args[0][:20]!r}"
        ) from None
    return np.frombuffer(pixels, np.uint8).reshape(SIZE, SIZE)


def _check_classes(where: pathlib.Path, counts: np.ndarray) -> None:
    missing = [name for name, n in zip(EMOTIONS, counts, strict=True) if not n]
    if missing:
        raise UserError(f"{where}: no training face of {', '.join(missing)}")


class FolderSource:
    """train|test/<emotion>/<file>, one image a face; leaves out names such as .cache.

    Raises:
      UserError: names the folder or the file that is wrong; images are read later.
    """

    notes = ()

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._files: dict[str, list[tuple[pathlib.Path, str]]] = {
            usage: [] for usage in SPLITS
        }
        for split in ("train", "test"):
            for class_folder in _visible(folder / split, pathlib.Path.is_dir):
                emotion = _emotion_of(class_folder)
                files = _visible(class_folder, pathlib.Path.is_file)
                if not files:
                    raise UserError(f"{class_folder} holds no image")
                for path in files:
                    self._files[_usage_of(path, split)].append((path, emotion))
        counts = np.zeros(len(EMOTIONS), int)
        for _, emotion in self._files["Training"]:
            counts[EMOTIONS.index(emotion)] += 1
        _check_classes(folder / "train", counts)

    def usages(self) -> list[str]:
        """Those that occur, in the order of SPLITS."""
        return [usage for usage in SPLITS if self._files[usage]]

    def faces(self, usage: str) -> Iterator[Face]:
        """Yields those of one Usage, in the order of their paths."""
        for path, emotion in self._files[usage]:
            name = path.relative_to(self._folder).with_suffix("").as_posix()
            yield Face(_read_image(path), emotion, name)


def _visible(folder: pathlib.Path, is_kind) -> list[pathlib.Path]:
    if not folder.is_dir():
        return []
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(filter(is_kind, paths))


def _emotion_of(folder: pathlib.Path) -> str:
    name = emotion_of(folder.name)
    if name is None:
        raise UserError(
            f"{folder}: expected the name of an emotion, one of {', '.join(EMOTIONS)}"
        )
    return name


def _usage_of(path: pathlib.Path, split: str) -> str:
    test = [u for u in ("PublicTest", "PrivateTest") if path.name.startswith(u)]
    if split == "test" and not test:
        raise UserError(
            f"{path}: test/ holds the public and the private test faces together, and "
            "this file's name does not say which: expected PublicTest_... or "
            "PrivateTest_..."
        )
    if split == "train" and test:
        raise UserError(f"{path}: a face of {test[0]} is in train/")
    return test[0] if test else "Training"


def _read_image(path: pathlib.Path) -> np.ndarray:
    """Returns uint8 [48, 48]."""
    try:
        with Image.open(path) as image:
            size, mode = image.size, image.mode
            if size == (SIZE, SIZE):
                rgb = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises nearly anything for a damaged file.
        raise UserError(f"{path}: not a whole image ({error})") from None
    if size != (SIZE, SIZE):
        raise UserError(
            f"{path}: expected {SIZE}x{SIZE} pixels, found {size[0]}x{size[1]}"
        )
    if mode not in ("L", "1", "P", "LA", "RGB", "RGBA"):
        raise UserError(f"{path}: expected an 8-bit gray image, found mode {mode}")
    if (rgb != rgb[:, :, :1]).any():
        raise UserError(f"{path}: expected a gray image, found colours")
    return np.ascontiguousarray(rgb[:, :, 0])
