"""Exports the best checkpoint of a run as one folder that jax alone can run.

deepfer export --workdir runs/quickstart --out models/quickstart
deepfer export --model models/tiny --out models/again      with this jax, anew
"""

import argparse

from deepfer_jax import export


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", help="a training run")
    source.add_argument("--model", help="an exported model, to be exported again")
    add = parser.add_argument
    add("--out", required=True, help="folder to write")
    data = "of the run's data, if it has moved; with --model: fits its quality anew"
    add("--data_dir", help=data)
    uncalibrated = "without temperature and threshold, which need the validation split"
    add("--uncalibrated", action="store_true", help=uncalibrated)
    add("--half", action="store_true", help="parameters in float16, at half the size")
    args = parser.parse_args(argv)

    if args.workdir:
        metadata = export.export_run(
            args.workdir,
            args.out,
            args.data_dir,
            calibrated=not args.uncalibrated,
            half=args.half,
        )
    else:
        metadata = export.export_again(
            args.model, args.out, args.half or None, args.data_dir
        )
    print(f"{metadata['num_parameters']:,} parameters exported to {args.out}")
    if metadata["calibration"]:
        print(export.format_calibration(metadata["calibration"]))
    return 0
