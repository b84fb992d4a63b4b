"""Measures what heat maps are worth; prints JSON.

python scripts/measure_explanations.py --dataset fer2013 --split public_test
"""

import argparse
import json

from deepfer_jax import errors

with errors.imports("train"):
    from measuring.explanations import measure_explanations

    from deepfer_jax.data import datasets
    from deepfer_jax.runs.trained import load_trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", default="tiny", help="names or folders, with commas")
    add("--dataset", required=True, help="of faces: fer2013, ...")
    add("--split", required=True, help="public_test, ...")
    add("--num", type=int, default=500, help="of its faces (%(default)s)")
    add("--data_dir", default="data", help="where it was prepared")
    args = parser.parse_args()
    builder = datasets.load_builder(args.dataset, args.data_dir)
    results = []
    for model in args.model.split(","):
        trained = load_trained(model)
        found = measure_explanations(trained, builder, args.split, args.num)
        results.append({"model": model} | found)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    with errors.reported():
        main()
