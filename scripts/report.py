"""Writes one HTML page about a trained network, to read in any browser.

python scripts/report.py --workdir runs/tiny
"""

import argparse
import pathlib

from deepfer_jax import errors, outputs

with errors.imports("train"):
    from deepfer_jax.evaluation.report import create_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--workdir", required=True, help="a training run or exported model, evaluated"
    )
    parser.add_argument(
        "--out", help="the page; report.html in the folder if not given"
    )
    parser.add_argument(
        "--evaluation", help="which one to show, the newest if not given"
    )
    parser.add_argument("--data_dir", default="data", help="where the data is prepared")
    parser.add_argument(
        "--no-faces", action="store_true", help="without pictures of mistakes"
    )
    args = parser.parse_args()
    data_dir = None if args.no_faces else args.data_dir
    page = create_report(args.workdir, args.evaluation, data_dir)
    out = pathlib.Path(args.out or pathlib.Path(args.workdir) / "report.html")
    with outputs.replacing(out) as path:
        path.write_text(page, encoding="utf-8")
    print(f"{out}: {len(page) / 1e6:.1f} MB")


if __name__ == "__main__":
    with errors.reported():
        main()
