"""Whether pictures in bulk hold: every row once, whatever is killed; speed; memory.

python scripts/measure_bulk.py --out results/bulk.json
python scripts/measure_bulk.py --out results/bulk.json --parts speed --rounds 3

Draws pictures, reads them on a Ray cluster of two nodes on this machine, of which a
worker and then a node are killed, and compares. Writes one JSON document, and keeps
what it has of other parts; the top of scripts/measuring/bulk.py says what it holds.
"""

import argparse
import json
import pathlib
import tempfile

from measuring import timing
from measuring.bulk import PARTS, measure

from deepfer_jax import errors, outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=pathlib.Path, required=True, help="file to write")
    add("--parts", default=",".join(PARTS), help="what to measure (%(default)s)")
    add("--pictures", type=int, default=20_000, help="of the kills (%(default)s)")
    add("--speed", type=int, default=2_000, help="pictures of a round (%(default)s)")
    add("--rounds", type=int, default=5, help="of speed (%(default)s)")
    add("--listed", type=int, default=1_000_000, help="files of the longer list")
    add("--trained", type=int, default=200_000, help="faces of the larger data set")
    args = parser.parse_args()

    parts = args.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        raise errors.UserError(f"--parts: no part is called {', '.join(unknown)}")
    document = json.loads(args.out.read_text()) if args.out.exists() else {}
    document |= {"command": "bulk"} | timing.describe_machine()
    nums = (args.pictures, args.speed, args.rounds, args.listed, args.trained)
    with tempfile.TemporaryDirectory() as folder:
        for name, measured in measure(pathlib.Path(folder), parts, *nums):
            document[name] = measured
            with outputs.replacing(args.out) as path:
                path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    with errors.reported():
        main()
