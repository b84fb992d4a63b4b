"""Faces of photographs in one line of Python: `deepfer_jax.read`.

import deepfer_jax

faces = deepfer_jax.read("photo.jpg")              # Faces, a list of Face
faces[0].label, faces[0].probability, faces.to_dataframe()
deepfer_jax.draw("photo.jpg", faces).save("annotated.jpg")
for faces in deepfer_jax.read("photos/"):          # Photos, a list of Faces
    print(faces.source, len(faces))
"""

import functools
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from deepfer_jax.data.images import find_images, read_image, to_rgb
from deepfer_jax.errors import UserError
from deepfer_jax.faces import photos, tables
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.face import Face
from deepfer_jax.inference import DEFAULT_MODEL

# A path, an open picture, or pixels uint8 [H, W], [H, W, 1] or RGB [H, W, 3].
Photo = str | os.PathLike | Image.Image | np.ndarray


class Faces(list[Face]):
    """The faces of one photograph, the surest of being a face first.

    Attributes:
      source: its path, or "" of pixels.
      classes: names of the faces' probabilities.
    """

    def __init__(self, faces: Iterable[Face], source: str, classes: tuple[str, ...]):
        super().__init__(faces)
        self.source, self.classes = source, classes

    def to_dataframe(self) -> Any:
        """A pandas.DataFrame, a row a face, with the columns of `tables.columns`.

        Raises:
          UserError: pandas is not installed.
        """
        return _dataframe([self], self.classes)


class Photos(list[Faces]):
    """The faces of many photographs, in their order."""

    def to_dataframe(self) -> Any:
        """As `Faces.to_dataframe`, of all; a photograph without a face has no row."""
        classes = self[0].classes if self else ()
        return _dataframe(self, classes)


def _dataframe(photographs: Iterable[Faces], classes: tuple[str, ...]) -> Any:
    try:
        import pandas
    except ImportError:
        raise UserError(
            'pandas is not installed: pip install "deepfer_jax[tables]"'
        ) from None
    rows = [
        row
        for faces in photographs
        if faces
        for row in tables.rows(faces.source, faces, classes)
    ]
    columns = [name for name in tables.columns(classes) if name != "error"]
    return pandas.DataFrame(rows, columns=columns)


def read(
    photographs: Photo | Iterable[Photo],
    model: str | os.PathLike = DEFAULT_MODEL,
    detector: str = "auto",
) -> Faces | Photos:
    """Finds the faces of photographs and classifies their expression.

    Args:
      photographs: a path, a PIL image or an array uint8 [H, W], [H, W, 1] or RGB
        [H, W, 3]; or a folder, or an iterable of such, of any sizes.
      model: a name that ships, or a folder.
      detector: "auto", "short" or "full", as of Analyzer.

    Returns:
      Faces of one photograph; Photos, a list of Faces, of a folder or an iterable.

    Raises:
      UserError: a file cannot be read, the model is not there, or it is an address.
    """
    analyzer = _load(os.fspath(model), detector)
    if isinstance(photographs, Photo):
        if not (isinstance(photographs, str | os.PathLike) and _is_folder(photographs)):
            return _read_one(analyzer, photographs)
        photographs = find_images([photographs])
    return Photos(_read_one(analyzer, photo) for photo in photographs)


@functools.lru_cache(maxsize=4)
def _load(model: str, detector: str) -> Analyzer:
    return Analyzer(model, detector)


def _is_folder(path: str | os.PathLike) -> bool:
    return pathlib.Path(path).is_dir()


def _read_one(analyzer: Analyzer, photo: Photo) -> Faces:
    faces = photos.find_faces(analyzer, _pixels(photo))
    source = os.fspath(photo) if isinstance(photo, str | os.PathLike) else ""
    return Faces(faces, source, analyzer.classes)


def _pixels(photo: Photo) -> np.ndarray:
    """uint8 RGB [H, W, 3]."""
    if isinstance(photo, Image.Image):
        return np.asarray(ImageOps.exif_transpose(photo).convert("RGB"))
    if isinstance(photo, np.ndarray):
        kinds = {2: (0,), 3: (1, 3)}
        channels = 0 if photo.ndim == 2 else photo.shape[-1]
        if photo.dtype != np.uint8 or channels not in kinds.get(photo.ndim, ()):
            raise UserError(
                "photograph: expected uint8 [H, W], [H, W, 1] or RGB [H, W, 3], found "
                f"{photo.dtype} {list(photo.shape)}"
            )
        return to_rgb(photo.reshape(*photo.shape[:2]) if channels == 1 else photo)
    if "://" in os.fspath(photo):
        raise UserError(
            f"{photo}: addresses are not fetched: download it, and give the file"
        )
    return to_rgb(read_image(photo))


def draw(photo: Photo, faces: Faces, bars: bool = False) -> Image.Image:
    """The photograph with a box around each face and its tag.

    Args:
      photo: as of `read`, one.
      faces: what `read` gave of it.
      bars: whether each tag has a bar for every probability too.
    """
    return photos.draw_faces(_pixels(photo), faces, faces.classes, bars)
