"""Whether it holds up: many clients, a long video, thousands of bad inputs.

python scripts/soak.py --out results/soak.json
python scripts/soak.py --seconds 5 --frames 300 --inputs 200

Writes one JSON document; exits with 1 if something failed or memory grew. The top of
scripts/measuring/soak.py says what it holds.
"""

import argparse
import json
import pathlib
import tempfile

from measuring.soak import find_failures, soak

from deepfer_jax import errors, outputs

_SCRIPTS = pathlib.Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--seconds", type=float, default=600, help="of the clients")
    add("--frames", type=int, default=10_000, help="of the video")
    add("--inputs", type=int, default=10_000, help="bad ones, each way")
    add("--out", type=pathlib.Path, help="file to write; else it is printed")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        document = soak(
            _SCRIPTS, pathlib.Path(folder), args.seconds, args.frames, args.inputs
        )
    text = json.dumps(document, indent=2)
    if args.out:
        with outputs.replacing(args.out) as path:
            path.write_text(text + "\n")
    else:
        print(text)
    if failures := list(find_failures(document)):
        raise errors.UserError("; ".join(failures))


if __name__ == "__main__":
    with errors.reported():
        main()
