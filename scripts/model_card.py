"""Writes MODEL_CARD.md from an exported model and the files of its evaluation.

python scripts/model_card.py --model deepfer_jax/assets/tiny \
    --results results/fer2013_tiny --out MODEL_CARD.md
"""

import argparse

from deepfer_jax import errors, outputs

with errors.imports("train"):
    from deepfer_jax.evaluation.model_card import model_card


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a folder of scripts/export.py")
    parser.add_argument("--results", required=True, help="config.json and evaluations")
    parser.add_argument("--out", required=True, help="the page to write")
    args = parser.parse_args()
    text = model_card(args.model, args.results)
    with outputs.replacing(args.out) as path:
        path.write_text(text)
    print(args.out)


if __name__ == "__main__":
    with errors.reported():
        main()
