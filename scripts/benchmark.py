"""Measures the speed of training or of inference; prints one JSON document.

python scripts/speed.py train --model tiny,base --pipeline resident,tf.data,fixed
python scripts/speed.py infer --model_dir models/quickstart --compare torch
python scripts/speed.py realtime

Lists have commas. The tops of scripts/measuring/speed.py and benchmark_realtime.py say
what the document holds.
"""

import argparse
import functools
import json
import logging
import os
import pathlib
import sys
import tempfile

from deepfer_jax import errors

with errors.imports("train"):
    from measuring import speed
    from measuring.realtime import benchmark_realtime

    from deepfer_jax import parallel
    from deepfer_jax.inference import DEFAULT_MODEL
    from deepfer_jax.training.config import read_recipe


def numbers(text: str) -> list[int]:
    return list(map(int, text.split(",")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="steps of the training program")
    infer = commands.add_parser("infer", help="calls, from faces to probabilities")
    names = functools.partial(str.split, sep=",")
    for add in (train.add_argument, infer.add_argument):
        add("--config", default="configs/quickstart.py", help="the recipe")
        add("--model", type=names, default=["tiny"], help="tiny,base,vgg,resnet18,...")
        add("--precision", type=names, default=["float32"], help="float32,bfloat16")
        add("--image_size", type=int, default=48, help="pixels of height and width")
        add("--compare", choices=["torch"], help="the same in PyTorch too")
        add("--seconds", type=float, default=1.0, help="of a measurement")
        add("--rounds", type=int, default=7, help="measurements of each")
    train.add_argument("--pipeline", type=names, default=["resident", "fixed"])
    train.add_argument("--batch_size", type=int, default=64, help="faces a step")
    train.add_argument("--data_dir", default="data", help="of the recipe's faces")
    infer.add_argument("--model_dir", help="of scripts/export.py, in place of --model")
    infer.add_argument("--batch_sizes", type=numbers, default="1,64,256")
    realtime = commands.add_parser("realtime", help="from a frame to emotions")
    realtime.add_argument("--model_dir", default=DEFAULT_MODEL, help="exported")
    realtime.add_argument("--cores", type=numbers, default="1,2")
    realtime.add_argument("--calls", type=int, default=200, help="of each part")
    realtime.add_argument("--compare", choices=["fer"], help="the PyPI package too")
    realtime.add_argument(
        "--fer_python", default=sys.executable, help="a Python that has fer"
    )
    args = parser.parse_args()
    if args.command == "realtime":
        with tempfile.TemporaryDirectory() as folder:
            document = benchmark_realtime(
                args.model_dir,
                args.cores,
                pathlib.Path(folder),
                args.calls,
                args.fer_python if args.compare else None,
            )
        print(json.dumps(document, indent=2))
        return
    # jax would otherwise take most of a GPU's memory and leave PyTorch the rest.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    logging.basicConfig(format="%(message)s", force=True)
    logging.getLogger("deepfer_jax").setLevel(logging.INFO)
    config = read_recipe(args.config)
    which = (args.model, args.precision, args.image_size, args.compare == "torch")
    plan = speed.Plan(config, *which, args.seconds, args.rounds)
    if args.command == "train":
        config.train.batch_size = args.batch_size
        config.dataset.data_dir = args.data_dir
        parallel.keep_memory()  # as deepfer_jax.main does
        document = speed.benchmark_train(plan, args.pipeline)
    else:
        document = speed.benchmark_infer(plan, args.batch_sizes, args.model_dir)
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    with errors.reported():
        main()
