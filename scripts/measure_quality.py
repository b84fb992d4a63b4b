"""Measures whether faces that stay sure are right where they are spoiled; prints JSON.

python scripts/measure_quality.py --dataset ferplus/distribution7 --split public_test
"""

import argparse
import json

from deepfer_jax import errors

with errors.imports("train"):
    from measuring import quality, timing

    from deepfer_jax.data import datasets
    from deepfer_jax.evaluation.evaluate import open_split
    from deepfer_jax.faces.analyzer import Analyzer
    from deepfer_jax.runs.trained import load_trained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", default="tiny,small", help="names or folders, with commas")
    add("--dataset", required=True, help="of gray faces: ferplus/distribution7, ...")
    add("--split", required=True, help="that choices are made on: public_test, ...")
    add("--data_dir", default="data", help="where it was prepared")
    args = parser.parse_args()
    builder = datasets.load_builder(args.dataset, args.data_dir)
    models = []
    for name in args.model.split(","):
        trained = load_trained(name)
        faces = open_split(builder, args.split, trained.classes)
        models.append(
            {"model": name}
            | quality.measure_quality(trained, builder, args.split)
            | {"turned": quality.measure_turned(Analyzer(name), faces)}
            | quality.measure_cost(trained, faces)
        )
    print(
        json.dumps({"machine": timing.describe_machine(), "models": models}, indent=2)
    )


if __name__ == "__main__":
    with errors.reported():
        main()
