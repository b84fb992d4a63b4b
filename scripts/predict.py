"""Reads the emotion of each face image: one JSON line a file.

python scripts/predict.py faces/ more/face.jpg
python scripts/predict.py --model models/quickstart faces/

Each image is one face, already cropped. Needs jax, numpy, flatbuffers and Pillow.
"""

import argparse
import json
import pathlib
import sys

from deepfer_jax.data.images import ImageError, is_image_name, read_image
from deepfer_jax.inference import DEFAULT_MODEL, ModelError, Predictor


def find_images(paths: list[str]):
    """Yields the files named, and the images below the folders named."""
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            yield from filter(is_image_name, sorted(path.rglob("*")))
        else:
            yield path


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
            prediction = predictor.classify([read_image(path)])[0]
        except (ImageError, ModelError) as error:
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
