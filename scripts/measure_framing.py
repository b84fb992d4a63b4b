"""Measures which crop around a detected face suits a classifier; prints JSON.

python scripts/measure_framing.py --dataset fer2013 --split public_test
"""

import argparse
import json

from deepfer_jax import errors

with errors.imports("train"):
    from measuring.framing import BACKGROUNDS, measure_framing

    from deepfer_jax.data import datasets
    from deepfer_jax.inference import DEFAULT_MODEL
    from deepfer_jax.models.blazeface import BLAZEFACES
    from deepfer_jax.runs.trained import load_trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="of scripts/export.py, or a run")
    add("--dataset", required=True, help="of gray faces: fer2013, ...")
    add("--split", required=True, help="that choices are made on: public_test, ...")
    add("--data_dir", default="data", help="where it was prepared")
    args = parser.parse_args()
    trained = load_trained(args.model)
    builder = datasets.load_builder(args.dataset, args.data_dir)
    results = [
        measure_framing(trained, builder, args.split, detector, background)
        for detector in BLAZEFACES
        for background in BACKGROUNDS
    ]
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    with errors.reported():
        main()
