"""Scores an ensemble from the probabilities that scripts/evaluate.py wrote.

python scripts/ensemble.py runs/*/eval/fer2013_public_test_ten_crop.npz
"""

import argparse
import json

from deepfer_jax import errors, outputs

with errors.imports("train"):
    from deepfer_jax.evaluation.ensemble import evaluate_ensemble, load_members


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", help="of the same split and faces")
    parser.add_argument("--seed", type=int, default=0, help="of the two halves")
    parser.add_argument("--out", help="also write the result there, as JSON")
    args = parser.parse_args()
    result = evaluate_ensemble(load_members(args.files), args.seed)
    for name, accuracy in result["single"].items():
        print(f"{accuracy:8.2%}  {name}")
    low, high = result["accuracy_ci95"]
    print(f"{result['all']:8.2%}  all {len(args.files)} averaged")
    print(
        f"{result['accuracy']:8.2%}  chosen on one half, scored on the other "
        f"(95 % interval {low:.2%} to {high:.2%}, {result['n']:,} faces)"
    )
    if args.out:
        with outputs.replacing(args.out) as path:
            path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    with errors.reported():
        main()
