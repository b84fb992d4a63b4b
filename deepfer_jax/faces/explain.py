"""Why a face was read so: its crop beside where it must be seen for its class.

    explainer = Explainer("tiny")
    pictures = explainer.explain(image, faces)      # one of 2 * 192 pixels a face

The crop is what the classifier was shown; in the other half red lies where hiding the
face takes from the probability of its label, blue where hiding adds to it
(`deepfer_jax.occlusion`). Needs jax, numpy and Pillow.
"""

import base64
import io
import os
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deepfer_jax.faces.analyzer import place_frames
from deepfer_jax.faces.crop import Framing, crop_faces
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.photos import make_smaller, scale_faces
from deepfer_jax.inference import DEFAULT_MODEL, Predictor, fit_face
from deepfer_jax.occlusion import occlusion_map, tint

SIDE = 192
_crop = jax.jit(crop_faces, static_argnums=(4, 6))


class Explainer:
    """Explains what an Analyzer of the same model and detector reads.

    Args:
      model, detector, cache: as of an Analyzer.

    Raises:
      ModelError: as of a Predictor.
    """

    def __init__(
        self,
        model: str | os.PathLike = DEFAULT_MODEL,
        detector: str = "auto",
        cache: bool = True,
    ):
        self._predictor = Predictor(model, cache)
        self._shape = tuple(self._predictor.metadata["input"]["shape"])
        self._detector = "short" if detector == "short" else "full"

    def explain(
        self, image: np.ndarray, faces: Sequence[Face], is_face: bool = False
    ) -> list[np.ndarray]:
        """Pictures of the faces of one photograph.

        Args:
          image: uint8 [H, W, 3], RGB.
          faces: found in it.
          is_face: whether the image is a face, already cropped, and faces are what was
            read of it.

        Returns:
          uint8 [SIDE, 2 * SIDE, 3] for each: its crop, and its crop under its map.
        """
        if is_face:
            crop = fit_face(image, self._shape)
            return [self._draw(crop, face.label) for face in faces]
        about = self._predictor.metadata["faces"]["detectors"][self._detector]
        framing = Framing(**about["framing"])
        small = make_smaller(image)
        factor = np.array(small.shape[1::-1], np.float32) / image.shape[1::-1]
        [(frames, size)] = place_frames(small[None])
        index = np.zeros(1, np.int32)
        pictures = []
        for face in scale_faces(faces, factor):
            places = (index, face.box[None], face.landmarks[None])
            crop = _crop(frames, *places, framing, size, self._shape)
            pictures.append(self._draw(np.asarray(crop)[0], face.label))
        return pictures

    def _draw(self, crop: np.ndarray, label: str) -> np.ndarray:
        index = self._predictor.classes.index(label)
        heat = occlusion_map(self._predictor.predict, crop, index)
        pair = (np.broadcast_to(crop, (*crop.shape[:2], 3)), tint(crop, heat))
        return np.concatenate([_enlarge(picture) for picture in pair], axis=1)


def draw_rows(pictures: Sequence[np.ndarray], faces: Sequence[Face]) -> Image.Image:
    """One face under the other, with its label."""
    picture = Image.fromarray(np.concatenate(pictures))
    draw, font = ImageDraw.Draw(picture, "RGBA"), ImageFont.load_default(13)
    for i, face in enumerate(faces):
        text = f"{face.label}{'?' if face.unsure else ''} {face.probability:.0%}"
        place = (6, i * SIDE + 6)
        left, top, right, bottom = draw.textbbox(place, text, font)
        draw.rectangle((left - 4, top - 4, right + 4, bottom + 4), (12, 14, 17, 200))
        draw.text(place, text, "white", font)
    return picture


def to_data_uri(picture: np.ndarray) -> str:
    """A picture, uint8 [H, W, 3], as a page can show it."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _enlarge(picture: np.ndarray) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
