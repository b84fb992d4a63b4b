"""Faces of one's own, as a tree of folders: `<split>/<class>/<image>`.

    config = folder_config("rafdb", pathlib.Path("downloads/rafdb"), size=48)
    builder = ImageFolder(config=config, data_dir="data")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir="downloads/rafdb"))

Splits are folders train, val (valid, validation) and test, in any case; without any,
the folders are classes and all images are for training. Without a validation folder a
stratified share of the training images, drawn by a seed, becomes it. Class folders are
mapped to our names by `emotions.emotion_of`. Images of any size and kind become
`size` x `size` pixels by the rules of inference.fit_face: an image that is not square
is filled with its edges, so crop faces first.

The train split is stored in an order drawn from the seed, so that a shuffle buffer
smaller than the data sees all classes at any time; the others are sorted by path.

Millions of images are read by Apache Beam, on one machine's cores or a cluster:
`builder.beam_folder` says where the lists of images lie then, a line an image, which
all its machines read, as they read the images and write the data. What comes out is the
same as without.
"""

import collections
import dataclasses
import functools
import itertools
import json
import pathlib
import zlib
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from deepfer_jax.data.emotions import EMOTIONS, emotion_of, plain_name
from deepfer_jax.data.features import encode_png, face_features
from deepfer_jax.data.images import ImageError, is_image_name, read_image
from deepfer_jax.errors import UserError
from deepfer_jax.inference import fit_face

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
COLORS = {"gray": 1, "rgb": 3}
UNKNOWN_CLASSES = ("error", "skip", "keep")


@dataclasses.dataclass(eq=False)
class ImageFolderConfig(tfds.core.BuilderConfig):
    """How a folder is prepared.

    Attributes:
      size: pixels of height and width.
      color: "gray" or "rgb".
      class_names: names of folders (such as numbers) -> names of classes.
      unknown_classes: "error"; "skip" leaves their images out; "keep" makes the classes
        exactly those found, ours first.
      validation_fraction: of each class, where there is no validation folder.
      seed: of that choice, and of the order of train.
      classes: names of labels, in order.
    """

    size: int = 48
    color: str = "gray"
    class_names: dict[str, str] = dataclasses.field(default_factory=dict)
    unknown_classes: str = "error"
    validation_fraction: float = 0.1
    seed: int = 0
    classes: tuple[str, ...] = EMOTIONS

    def options(self) -> dict[str, Any]:
        """What a user chooses, but for the name: stored with the data."""
        general = {field.name for field in dataclasses.fields(tfds.core.BuilderConfig)}
        names = {field.name for field in dataclasses.fields(self)} - general
        return {name: getattr(self, name) for name in sorted(names - {"classes"})}


def folder_config(name: str, folder: pathlib.Path, **options: Any) -> ImageFolderConfig:
    """Returns the configuration of a folder, with the classes that it has.

    Args:
      name: of the data set, which is image_folder/name.
      folder: of the images.
      **options: fields of ImageFolderConfig.

    Raises:
      UserError: an option that cannot be, or whatever is wrong with the folder.
    """
    config = ImageFolderConfig(name=name, **options)
    if not 16 <= config.size <= 1024:
        raise UserError(f"--size: expected 16 to 1024 pixels, found {config.size}")
    if config.seed < 0:
        raise UserError(f"--seed: expected 0 or more, found {config.seed}")
    if not 0 <= config.validation_fraction < 1:
        raise UserError(
            "--validation_fraction: expected 0 <= fraction < 1, found "
            f"{config.validation_fraction}"
        )
    config.classes = ImageFolderSource(folder, config).classes
    return config


class ImageFolder(tfds.core.GeneratorBasedBuilder):
    """Faces from a tree of folders."""

    name = "image_folder"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Give the folder that holds train/<class>/<image> and so on as --manual_dir"
    )

    # For lists of images, which Beam reads; None to read images here, one by one.
    beam_folder: pathlib.Path | None = None

    def open_source(self, folder: pathlib.Path) -> "ImageFolderSource":
        """Looks through the folder; raises a UserError that names what is wrong."""
        return ImageFolderSource(folder, self.builder_config)

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=face_features(
                config.size, classes=config.classes, channels=COLORS[config.color]
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(config.options()),
        )

    def _split_generators(self, dl_manager):
        source = self.open_source(pathlib.Path(dl_manager.manual_dir))
        return {name: self._generate_examples(source, name) for name in source.splits}

    def _generate_examples(self, source: "ImageFolderSource", split: str):
        config = self.builder_config
        shape = (config.size, config.size, COLORS[config.color])
        read = functools.partial(_read_example, source.folder, shape)
        images = ((i, *image) for i, image in enumerate(source.splits[split]))
        if self.beam_folder is None:
            return itertools.starmap(read, images)
        beam = import_beam()
        lines = self.beam_folder / f"{split}.jsonl"
        with lines.open("w") as file:
            for index, path, label in images:
                file.write(json.dumps((index, str(path), label)) + "\n")
        return (
            f"List {split}" >> beam.io.ReadFromText(str(lines))
            | f"Spread {split}" >> beam.Reshuffle()
            | f"Read {split}" >> beam.Map(lambda line: read(*json.loads(line)))
        )


def import_beam():
    """Returns Apache Beam.

    Raises:
      UserError: it is not installed.
    """
    try:
        import apache_beam
        import apache_beam.options.pipeline_options
    except ImportError:
        raise UserError(
            'Apache Beam is not installed: pip install "deepfer_jax[train,beam]" in an '
            "environment of its own"
        ) from None
    return apache_beam


def _read_example(
    folder: pathlib.Path,
    shape: tuple[int, int, int],
    index: int,
    path: str | pathlib.Path,
    label: str,
) -> tuple[int, dict[str, Any]]:
    """An image as TFDS stores it, with its place."""
    try:
        image = fit_face(read_image(path), shape)
    except ImageError as error:
        raise UserError(f"{error}: remove it, or convert it to a PNG file") from None
    name = pathlib.Path(path).relative_to(folder).as_posix()
    return index, {"image": encode_png(image), "label": label, "id": name}


class ImageFolderSource:
    """What a folder holds, by split; images are read later.

    Attributes:
      folder: of the images.
      classes: names of labels, in order.
      splits: (path, class) of every image, by split, in the order they are stored in.
      notes: lines that say what was left out, and where validation comes from.

    Raises:
      UserError: names the folder that is wrong.
    """

    def __init__(self, folder: pathlib.Path, config: ImageFolderConfig):
        self.folder, self._config = folder, config
        self._skipped: collections.Counter[str] = collections.Counter()
        self._class_folders: set[str] = set()
        self.splits = {
            split: self._find_images(path)
            for split, path in sorted(_split_folders(folder).items())
        }
        unused = config.class_names.keys() - self._class_folders
        if unused:
            raise UserError(
                f"--class_names: {folder} has no class folder "
                f"{', '.join(sorted(unused))}"
            )
        names = {name for images in self.splits.values() for _, name in images}
        self.classes: tuple[str, ...] = EMOTIONS
        if config.unknown_classes == "keep":
            ours = [name for name in EMOTIONS if name in names]
            self.classes = (*ours, *sorted(names.difference(EMOTIONS)))
        self.notes = [f"left out: {n:,} {what}" for what, n in self._skipped.items()]
        if "train" in self.splits:
            if "validation" not in self.splits and config.validation_fraction > 0:
                self._split_train()
            train = self.splits["train"]
            order = _rng(config.seed, "order of train").permutation(len(train))
            self.splits["train"] = [train[i] for i in order]

    def _find_images(self, folder: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
        images = []
        for path in folder.iterdir():
            if path.is_file() and is_image_name(path):
                raise UserError(f"{path}: expected images in folders of classes only")
        for class_folder in _visible_folders(folder):
            self._class_folders.add(class_folder.name)
            name, files = self._class_of(class_folder), _visible_files(class_folder)
            faces = [path for path in files if is_image_name(path)]
            if len(faces) < len(files):
                what = "files that are not called like images"
                self._skipped[what] += len(files) - len(faces)
            if name is None:
                what = f"images of the unknown class {class_folder.name}"
                self._skipped[what] += len(faces)
                continue
            images += [(path, name) for path in faces]
        if not images:
            raise UserError(f"{folder} holds no image in a folder of a class")
        return images

    def _class_of(self, folder: pathlib.Path) -> str | None:
        """The name of a class; None if its images are left out."""
        config = self._config
        if folder.name in config.class_names:
            name = config.class_names[folder.name]
            name = emotion_of(name) or plain_name(name)
        elif folder.name.isdigit():
            raise UserError(
                f"{folder}: a number says nothing of the emotion, and data sets number "
                'them differently: give --class_names "1=surprise,2=fear,..."'
            )
        else:
            name = emotion_of(folder.name) or ""
            if not name and config.unknown_classes == "keep":
                name = plain_name(folder.name)
        if name in EMOTIONS or (name and config.unknown_classes == "keep"):
            return name
        if config.unknown_classes == "skip":
            return None
        raise UserError(
            f"{folder}: expected the name of an emotion, {', '.join(EMOTIONS)} or a "
            "synonym: rename it, or use --unknown_classes skip or keep"
        )

    def _split_train(self) -> None:
        """Takes a stratified share of the training images for validation.

        Of n images of a class round(fraction * n), but 1 to n - 1 of two or more.
        """
        fraction, seed = self._config.validation_fraction, self._config.seed
        by_class = collections.defaultdict(list)
        for image in self.splits["train"]:
            by_class[image[1]].append(image)
        chosen = set()
        for name, images in by_class.items():
            num = min(max(round(fraction * len(images)), 1), len(images) - 1)
            order = _rng(seed, name).permutation(len(images))
            chosen |= {images[i] for i in order[:num]}
        if not chosen:
            self.notes.append("no validation split: no class has two images of train")
            return
        train = self.splits["train"]
        self.splits["train"] = [image for image in train if image not in chosen]
        self.splits["validation"] = [image for image in train if image in chosen]
        self.notes.append(
            f"validation: {len(chosen):,} images of train, {fraction:g} of each class, "
            f"seed {seed}"
        )


def _rng(seed: int, purpose: str) -> np.random.Generator:
    """A random generator for each class, which does not depend on the others."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def _visible_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """All below the folder of a class, sorted.

    Raises:
      UserError: a folder in it is called like a split or an emotion.
    """
    paths = [path for path in folder.rglob("*") if not path.name.startswith(".")]
    for path in filter(pathlib.Path.is_dir, paths):
        if path.name.lower() in (*_SPLITS, *EMOTIONS):
            raise UserError(
                f"{path}: expected images of the class {folder.name}; give the folder "
                "that holds the splits, or the classes, as --manual_dir"
            )
    return sorted(filter(pathlib.Path.is_file, paths))


def _visible_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "__"))
    )


def _split_folders(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Where each split is; the folder itself is "train" if it holds classes."""
    folders = _visible_folders(folder)
    known = [path for path in folders if path.name.lower() in _SPLITS]
    if not known:
        return {"train": folder}
    for path in folders:
        if path not in known:
            raise UserError(
                f"{path}: expected a folder train, val or test beside "
                f"{known[0].name}: rename it or move it away"
            )
    splits = {_SPLITS[path.name.lower()]: path for path in known}
    if len(splits) < len(known):
        names = ", ".join(path.name for path in known)
        raise UserError(f"{folder}: two folders are the same split: {names}")
    return splits


def parse_class_names(text: str) -> dict[str, str]:
    """Reads "1=surprise,2=fear" as {"1": "surprise", "2": "fear"}.

    Raises:
      UserError: another form.
    """
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if not all(folder.strip() and name.strip() for folder, _, name in pairs):
        raise UserError(
            f'--class_names: expected "folder=class,folder=class", found {text!r}'
        )
    return {folder.strip(): name.strip() for folder, _, name in pairs}
