"""Measures what the detectors find, and how steady labels are; prints JSON.

python scripts/measure_detectors.py
python scripts/measure_detectors.py --mediapipe downloads/mediapipe_face_detection
"""

import argparse
import json
import pathlib

from deepfer_jax import errors

with errors.imports("train"):
    from measuring.recall import measure_beside_litert, measure_flicker, measure_recall

    from deepfer_jax.faces.analyzer import Analyzer
    from deepfer_jax.inference import DEFAULT_MODEL
    from deepfer_jax.models.blazeface import BLAZEFACES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="of scripts/export.py")
    parser.add_argument(
        "--mediapipe", type=pathlib.Path, help="the npm package, to time it in LiteRT"
    )
    args = parser.parse_args()
    document = {
        "recall": [measure_recall(name) for name in BLAZEFACES],
        "flicker": measure_flicker(Analyzer(args.model)),
    }
    if args.mediapipe:
        document["litert"] = {
            name: measure_beside_litert(
                name, args.mediapipe / f"face_detection_{name}_range.tflite"
            )
            for name in BLAZEFACES
        }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    with errors.reported():
        main()
