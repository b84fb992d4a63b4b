"""Reads the emotion of each face image: one JSON line a file.

python scripts/predict.py faces/ more/face.jpg
python scripts/predict.py --model models/quickstart faces/

Each image is one face, already cropped. Needs jax, numpy, flatbuffers and Pillow.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
from PIL import Image, ImageOps

from deepfer_jax.inference import DEFAULT_MODEL, ModelError, Predictor

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff", ".webp"}


def find_images(paths: list[str]):
    """Yields the files named, and the images below the folders named."""
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            yield from (
                p for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES
            )
        else:
            yield path


def read_face(path: pathlib.Path) -> np.ndarray:
    """Returns uint8 [H, W] or RGB uint8 [H, W, 3], upright by its EXIF rotation."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image)
        return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="a folder of scripts/export.py; by default the model that ships",
    )
    parser.add_argument("paths", nargs="+", help="image files, or folders of them")
    args = parser.parse_args()

    predictor = Predictor(args.model)
    failures = 0
    for path in find_images(args.paths):
        line = {"file": str(path)}
        try:
            prediction = predictor.classify([read_face(path)])[0]
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            line["error"] = str(error)
            failures += 1
        else:
            probabilities = prediction.probabilities.tolist()
            line |= {
                "emotion": prediction.label,
                "probability": prediction.probability,
                "unsure": prediction.unsure,
                "probabilities": dict(
                    zip(predictor.classes, probabilities, strict=True)
                ),
            }
        print(json.dumps(line), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ModelError as error:
        sys.exit(f"error: {error}")
