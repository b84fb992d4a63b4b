"""Exports the best checkpoint of a run as one folder that jax alone can run.

deepfer export --workdir runs/quickstart --out models/quickstart
deepfer export --model models/tiny --out models/again      with this jax, anew
deepfer export --model tiny --onnx models/onnx             for browsers and others
deepfer export --model tiny --tflite models/tflite         for phones
"""

import argparse

from deepfer_jax import export, onnx_export, tflite_export


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
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", help="folder to write")
    onnx = "folder for ONNX files of a --model and both detectors (the extra onnx)"
    target.add_argument("--onnx", metavar="OUT", help=onnx)
    tflite = "the same as TFLite (the extra tflite)"
    target.add_argument("--tflite", metavar="OUT", help=tflite)
    data = "of the run's data, if it has moved; with --model: fits its quality anew"
    add("--data_dir", help=data)
    uncalibrated = "without temperature and threshold, which need the validation split"
    add("--uncalibrated", action="store_true", help=uncalibrated)
    add("--half", action="store_true", help="parameters in float16, at half the size")
    args = parser.parse_args(argv)

    elsewhere = args.onnx or args.tflite
    if elsewhere:
        if args.workdir or args.data_dir or args.uncalibrated or args.half:
            name = "--onnx" if args.onnx else "--tflite"
            parser.error(f"{name} takes --model alone: export the run with --out first")
        write = onnx_export.export_onnx if args.onnx else tflite_export.export_tflite
        metadata = write(args.model, elsewhere)
        print(f"{metadata['num_parameters']:,} parameters exported to {elsewhere}")
        return 0
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
