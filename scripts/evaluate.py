"""Evaluates a trained run, or an exported model, on a split of a prepared data set.

python scripts/evaluate.py --workdir runs/quickstart --dataset synthetic_faces --split
test
"""

import argparse
import pathlib

from ml_collections import ConfigDict

from deepfer_jax import errors
from deepfer_jax.data import datasets
from deepfer_jax.evaluate import VIEWS, evaluate_split, format_result
from deepfer_jax.export import load_model
from deepfer_jax.run import restore_run


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
    args = parser.parse_args()

    if args.workdir:
        run = restore_run(args.workdir)
        model, variables = run.config.model, run.variables
    else:
        variables, metadata = load_model(args.model)
        model = ConfigDict(metadata["model"])
    config = ConfigDict({"model": model, "evaluation": {"batch_size": args.batch_size}})
    builder = datasets.load_builder(args.dataset, args.data_dir)
    folder = pathlib.Path(args.workdir or args.model)
    result = evaluate_split(config, variables, builder, args.split, args.tta, folder)
    print(format_result(result))
    print(f"\nwritten to {result['path']}")


if __name__ == "__main__":
    with errors.reported():
        main()
