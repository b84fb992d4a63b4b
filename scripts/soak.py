"""Whether it holds up: many clients, a long video, thousands of bad inputs.

python scripts/soak.py --out results/soak.json
python scripts/soak.py --seconds 5 --frames 300 --inputs 200
python scripts/soak.py --hosts 2 --out results/hosts.json

Writes one JSON document; exits with 1 if something failed or memory grew. The top of
scripts/measuring/soak.py says what it holds; with --hosts, of training over several
processes that are killed, that of scripts/measuring/hosts.py.
"""

import argparse
import json
import pathlib
import tempfile

from measuring import hosts, soak

from deepfer_jax import errors, outputs

_SCRIPTS = pathlib.Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--seconds", type=float, default=600, help="of the clients")
    add("--frames", type=int, default=10_000, help="of the video")
    add("--inputs", type=int, default=10_000, help="bad ones, each way")
    add("--hosts", type=int, help="processes that train together, and are killed")
    add("--kills", type=int, default=10, help="of them, with --hosts")
    add("--out", type=pathlib.Path, help="file to write; else it is printed")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if args.hosts:
            document = hosts.soak_hosts(folder, args.hosts, args.kills)
        else:
            sizes = args.seconds, args.frames, args.inputs
            document = soak.soak(_SCRIPTS, folder, *sizes)
    text = json.dumps(document, indent=2)
    if args.out:
        with outputs.replacing(args.out) as path:
            path.write_text(text + "\n")
    else:
        print(text)
    find_failures = (hosts if args.hosts else soak).find_failures
    if failures := list(find_failures(document)):
        raise errors.UserError("; ".join(failures))


if __name__ == "__main__":
    with errors.reported():
        main()
