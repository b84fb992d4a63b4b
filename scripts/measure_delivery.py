"""Measures faces as detectors deliver them, by size; prints JSON.

python scripts/measure_delivery.py --dataset fer2013 --split public_test
"""

import argparse
import json

from deepfer_jax import errors

with errors.imports("train"):
    from measuring.delivery import measure_delivery

    from deepfer_jax.data import datasets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", default="tiny", help="names or folders, with commas")
    add("--dataset", required=True, help="of gray faces, with commas")
    add("--split", required=True, help="public_test, ...")
    add("--num", type=int, default=1000, help="of its faces (%(default)s)")
    add("--data_dir", default="data", help="where it was prepared")
    add("--fer_python", help="a Python that has the package fer, to compare with")
    args = parser.parse_args()
    results = []
    for dataset in args.dataset.split(","):
        builder = datasets.load_builder(dataset, args.data_dir)
        peer = args.fer_python
        for model in args.model.split(","):
            rows = measure_delivery(model, builder, args.split, args.num, peer)
            about = {"dataset": dataset, "split": args.split, "model": model}
            results += [about | row for row in rows]
            peer = None  # it needs to be asked once
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    with errors.reported():
        main()
