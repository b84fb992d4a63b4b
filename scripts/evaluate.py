"""Evaluates a trained run, or an exported model, on a split of a prepared data set.

python scripts/evaluate.py --workdir runs/quickstart --dataset synthetic_faces --split
test
"""

import argparse
import pathlib

from deepfer_jax import errors

with errors.imports("train"):
    from deepfer_jax.data import datasets
    from deepfer_jax.data.audit import near_copies_of
    from deepfer_jax.evaluation.evaluate import (
        evaluate_corruptions,
        evaluate_split,
        format_corruptions,
        format_result,
    )
    from deepfer_jax.evaluation.predict import VIEWS
    from deepfer_jax.exported import shipped_models
    from deepfer_jax.runs.trained import load_trained


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", help="a training run: its best checkpoint")
    source.add_argument("--model", help="a name that ships, or a folder of export.py")
    add = parser.add_argument
    add("--dataset", required=True, help="fer2013, image_folder/mine, ...")
    add("--split", required=True, help="public_test, test, ...")
    add("--data_dir", default="data", help="where it was prepared")
    add("--tta", default="none", choices=VIEWS, help="test-time augmentation")
    add("--batch_size", type=int, default=256)
    corruptions = "also on faces made dark, blurred, covered, ... (one view)"
    add("--corruptions", action="store_true", help=corruptions)
    unseen = "also without faces that are, exactly or nearly, in that split (train)"
    add("--unseen", metavar="SPLIT", help=unseen)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.batch_size < 1:
        raise errors.UserError(
            f"--batch_size: expected 1 or more, found {args.batch_size}"
        )
    source = args.workdir or args.model
    trained = load_trained(source)
    # Not among the package's own files.
    folder = pathlib.Path("models" if source in shipped_models() else "", source)
    builder = datasets.load_builder(args.dataset, args.data_dir)
    where = (builder, args.split)
    leave_outs = [None]
    if args.unseen:
        leave_outs.append(near_copies_of(builder, args.split, args.unseen))
    for leave_out in leave_outs:
        result = evaluate_split(
            trained, *where, args.tta, args.batch_size, folder, leave_out
        )
        print(f"{format_result(result)}\n\nwritten to {result['path']}\n")
    if args.corruptions:
        result = evaluate_corruptions(trained, *where, args.batch_size, folder)
        print(f"{format_corruptions(result)}\n\nwritten to {result['path']}")


if __name__ == "__main__":
    with errors.reported():
        main()
