"""Whether pictures in bulk hold: every row once, whatever is killed; speed; memory.

python scripts/measure_bulk.py --out results/bulk.json
python scripts/measure_bulk.py --pictures 400 --speed 200 --rounds 1

Draws pictures, reads them on a Ray cluster of two nodes on this machine, of which a
worker and then a node are killed, and compares. Prints or writes one JSON document; the
top of scripts/measuring/bulk.py says what it holds.
"""

import argparse
import json
import pathlib
import tempfile

from measuring.bulk import measure

from deepfer_jax import errors, outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--pictures", type=int, default=20_000, help="of the kills (%(default)s)")
    add("--speed", type=int, default=2_000, help="pictures of a round (%(default)s)")
    add("--rounds", type=int, default=5, help="of speed (%(default)s)")
    add("--listed", type=int, default=1_000_000, help="files of the longest list")
    add("--trained", type=int, default=200_000, help="faces of the larger data set")
    add("--out", type=pathlib.Path, help="file to write; else it is printed")
    args = parser.parse_args()

    def save(document: dict) -> None:
        text = json.dumps(document, indent=2)
        if args.out:
            with outputs.replacing(args.out) as path:
                path.write_text(text + "\n")
        else:
            print(text)

    listed, trained = args.listed, args.trained
    with tempfile.TemporaryDirectory() as folder:
        where = pathlib.Path(folder)
        measure(
            where,
            args.pictures,
            args.speed,
            args.rounds,
            (listed // 100, listed),
            (trained // 4, trained),
            save,
        )


if __name__ == "__main__":
    with errors.reported():
        main()
