"""Exports the best checkpoint of a run as one folder that jax alone can run.

python scripts/export.py --workdir runs/quickstart --out models/quickstart

With --model in place of --workdir, an exported model is made again by this jax.
"""

import argparse

from deepfer_jax import errors

with errors.imports("train"):
    from deepfer_jax import export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", help="a training run")
    source.add_argument("--model", help="an exported model, to be exported again")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--data_dir", help="of the run's data, if it has moved")
    parser.add_argument(
        "--uncalibrated",
        action="store_true",
        help="without temperature and threshold, which need the validation split",
    )
    parser.add_argument(
        "--half", action="store_true", help="parameters in float16, at half the size"
    )
    args = parser.parse_args()

    if args.workdir:
        metadata = export.export_run(
            args.workdir,
            args.out,
            args.data_dir,
            calibrated=not args.uncalibrated,
            half=args.half,
        )
    else:
        metadata = export.export_again(args.model, args.out, args.half or None)
    print(f"{metadata['num_parameters']:,} parameters exported to {args.out}")
    if metadata["calibration"]:
        print(export.format_calibration(metadata["calibration"]))


if __name__ == "__main__":
    with errors.reported():
        main()
