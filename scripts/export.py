"""Exports the best checkpoint of a run as one folder that jax alone can run.

python scripts/export.py --workdir runs/quickstart --out models/quickstart

With --model in place of --workdir, an exported model is made again by this jax.
"""

import argparse

from deepfer_jax import errors, export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", help="a training run")
    source.add_argument("--model", help="an exported model, to be exported again")
    parser.add_argument("--out", required=True, help="folder to write")
    args = parser.parse_args()

    if args.workdir:
        metadata = export.export_run(args.workdir, args.out)
    else:
        metadata = export.export_again(args.model, args.out)
    print(f"{metadata['num_parameters']:,} parameters exported to {args.out}")


if __name__ == "__main__":
    with errors.reported():
        main()
