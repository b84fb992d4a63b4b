"""Compares an evaluation with a kept one: is it reproduced?

python scripts/compare.py runs/tiny/eval/fer2013_public_test_none.json \
    results/fer2013_tiny/fer2013_public_test_none.json

Another seed, jax or machine gives other bits: reproduced means an accuracy not below
the kept one's 95 % interval. Exits with 1 otherwise.
"""

import argparse
import sys

from deepfer_jax import errors

with errors.imports("train"):
    from deepfer_jax.evaluation.results import read_json

NUMBERS = ("accuracy", "macro_f1", "balanced_accuracy", "ece", "nll")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("new", help="JSON file of scripts/evaluate.py")
    parser.add_argument("kept", help="another, of the same data set and split")
    args = parser.parse_args()
    new, kept = read_json(args.new), read_json(args.kept)
    for field in ("dataset", "split", "tta", "n"):
        if new[field] != kept[field]:
            raise errors.UserError(
                f"{field}: {new[field]!r} in {args.new}, {kept[field]!r} in {args.kept}"
            )
    print(f"{'':<20}{'new':>10}{'kept':>10}")
    for name in NUMBERS:
        print(f"{name:<20}{new[name]:>10.4f}{kept[name]:>10.4f}")
    low, high = kept["accuracy_ci95"]
    reproduced = new["accuracy"] >= low
    verdict = "reproduced" if reproduced else "NOT reproduced"
    print(f"{verdict}: the kept 95 % interval is {low:.4f} to {high:.4f}")
    return 0 if reproduced else 1


if __name__ == "__main__":
    with errors.reported():
        sys.exit(main())
