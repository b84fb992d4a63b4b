"""Prepares a data set for training: reads, checks, counts and stores it once.

python scripts/prepare_data.py --dataset fer2013 --manual_dir downloads --data_dir data
"""

import argparse
import pathlib

from deepfer_jax import errors
from deepfer_jax.data import datasets
from deepfer_jax.data.audit import audit, format_audit, write_audit
from deepfer_jax.data.prepare import prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help=", ".join(datasets.BUILDERS))
    parser.add_argument("--manual_dir", help="folder of the files you downloaded")
    parser.add_argument("--data_dir", default="data", help="where to store it")
    parser.add_argument(
        "--file_format",
        choices=("tfrecord", "array_record"),
        default=datasets.default_file_format(),
        help="array_record can be read without TensorFlow",
    )
    parser.add_argument(
        "--audit", action="store_true", help="also look for near-duplicates"
    )
    args = parser.parse_args()
    prepare(args.dataset, args.manual_dir, args.data_dir, args.file_format)
    if args.audit:
        found = audit(datasets.load_builder(args.dataset, args.data_dir))
        print(format_audit(found))
        for path in write_audit(found, pathlib.Path(args.data_dir) / "audit"):
            print(path)


if __name__ == "__main__":
    with errors.reported():
        main()
