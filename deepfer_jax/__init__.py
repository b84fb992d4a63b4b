"""Facial emotion recognition in JAX: train, evaluate, export and run in real time.

    faces = deepfer_jax.read("photo.jpg")
    deepfer_jax.draw("photo.jpg", faces).save("annotated.jpg")

Names are imported when they are first used: importing the package imports nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfer_jax.faces.analyzer import Analyzer
    from deepfer_jax.faces.face import Face
    from deepfer_jax.faces.read import Faces, Photos, draw, read
    from deepfer_jax.faces.tracking import Tracker
    from deepfer_jax.inference import Predictor

__version__ = "0.1.0"
__all__ = [
    "Analyzer", "Face", "Faces", "Photos", "Predictor", "Tracker", "draw", "read",
]  # fmt: skip

_PLACES = {
    "Analyzer": "faces.analyzer",
    "Face": "faces.face",
    "Faces": "faces.read",
    "Photos": "faces.read",
    "Predictor": "inference",
    "Tracker": "faces.tracking",
    "draw": "faces.read",
    "read": "faces.read",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'deepfer_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"deepfer_jax.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
