"""Evaluates a trained run, or an exported model, on a split of a prepared data set.

python scripts/evaluate.py --workdir runs/quickstart --dataset synthetic_faces --split
test
"""

import argparse
import pathlib

from deepfer_jax import errors
from deepfer_jax.data import datasets
from deepfer_jax.evaluate import (
    VIEWS,
    evaluate_corruptions,
    evaluate_split,
    format_corruptions,
    format_result,
)
from deepfer_jax.network import load_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", help="a training run: its best checkpoint")
    source.add_argument("--model", help="a folder of scripts/export.py")
    parser.add_argument(
        "--dataset", required=True, help="fer2013, synthetic_faces, ..."
    )
    parser.add_argument("--split", required=True, help="public_test, test, ...")
    parser.add_argument("--data_dir", default="data", help="where it was prepared")
    parser.add_argument("--tta", default="none", choices=VIEWS)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument(
        "--corruptions",
        action="store_true",
        help="also on faces made dark, blurred, covered, ... (one view)",
    )
    args = parser.parse_args()

    folder = pathlib.Path(args.workdir or args.model)
    network = load_network(folder)
    builder = datasets.load_builder(args.dataset, args.data_dir)
    where = (builder, args.split)
    result = evaluate_split(network, *where, args.tta, args.batch_size, folder)
    print(format_result(result))
    print(f"\nwritten to {result['path']}")
    if args.corruptions:
        result = evaluate_corruptions(network, *where, args.batch_size, folder)
        print(f"\n{format_corruptions(result)}\n\nwritten to {result['path']}")


if __name__ == "__main__":
    with errors.reported():
        main()
