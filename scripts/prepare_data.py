"""Prepares a data set for training: reads, checks, counts and stores it once.

python scripts/prepare_data.py --dataset fer2013 --manual_dir downloads --data_dir data
python scripts/prepare_data.py --dataset image_folder/mine --manual_dir my_faces

An image_folder of millions is read by Apache Beam with --beam_options, on this
machine's cores or on a cluster whose machines share both folders: docs/bulk.md.
"""

import argparse
import pathlib

from deepfer_jax import errors

with errors.imports("train"):
    from deepfer_jax.data import datasets
    from deepfer_jax.data.audit import audit, format_audit, write_audit
    from deepfer_jax.data.image_folder import COLORS, UNKNOWN_CLASSES, parse_class_names
    from deepfer_jax.data.prepare import prepare


def create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--dataset", required=True, help=f"{', '.join(datasets.BUILDERS)}/NAME")
    add("--manual_dir", help="folder of the files you downloaded")
    add("--data_dir", default="data", help="where to store it")
    add(
        "--file_format",
        choices=("tfrecord", "array_record"),
        default=datasets.default_file_format(),
        help="array_record can be read without TensorFlow",
    )
    add("--audit", action="store_true", help="also look for near-duplicates")
    add(
        "--beam_options",
        help="read an image_folder by Apache Beam: runner=DirectRunner,...",
    )
    group = parser.add_argument_group("image_folder").add_argument
    absent = argparse.SUPPRESS
    group("--size", type=int, default=absent, help="pixels of height and width (48)")
    group("--color", choices=COLORS, default=absent, help="gray, if not given")
    group("--class_names", type=parse_class_names, default=absent, help="1=fear,2=...")
    group("--unknown_classes", choices=UNKNOWN_CLASSES, default=absent, help="error")
    group("--validation_fraction", type=float, default=absent, help="0.1")
    group("--seed", type=int, default=absent, help="of that choice (0)")
    return parser


def main() -> None:
    options = vars(create_parser().parse_args())
    names = ("dataset", "manual_dir", "data_dir", "file_format")
    dataset, manual_dir, data_dir, file_format = map(options.pop, names)
    audited = options.pop("audit")
    prepare(dataset, manual_dir, data_dir, file_format, **options)
    if audited:
        found = audit(datasets.load_builder(dataset, data_dir))
        print(format_audit(found))
        for path in write_audit(found, pathlib.Path(data_dir) / "audit"):
            print(path)


if __name__ == "__main__":
    with errors.reported():
        main()
