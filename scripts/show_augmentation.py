"""Pictures a batch before and after a recipe's augmentation, to look at.

python scripts/show_augmentation.py --config configs/fer2013_tiny.py --out augmented.png
"""

import argparse

from deepfer_jax import errors, outputs

with errors.imports("train"):
    import jax
    import jax.numpy as jnp
    import numpy as np
    from PIL import Image

    from deepfer_jax.data import augment
    from deepfer_jax.data.contact_sheet import contact_sheet
    from deepfer_jax.data.emotions import EMOTIONS
    from deepfer_jax.data.synthetic.builder import draw_face
    from deepfer_jax.training.config import read_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="a recipe of configs/")
    parser.add_argument("--out", required=True, help="picture to write")
    parser.add_argument("--columns", type=int, default=14, help="faces a row")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    config = read_recipe(args.config)
    augment.check_options(config.augment)
    rng = np.random.default_rng(args.seed)
    faces = [draw_face(rng, EMOTIONS[i % 7]) for i in range(args.columns)]
    images = jnp.asarray(np.array(faces))[..., None] / 255.0
    key = jax.random.key(args.seed)
    rows = [images]
    for row in range(6):
        keys = jax.random.split(jax.random.fold_in(key, row), args.columns)
        rows.append(augment.augment_batch(keys, images, config.augment))
    targets = jnp.zeros((args.columns, 7))
    rows += [
        mix(key, images, targets, 1.0)[0] for mix in (augment.mixup, augment.cutmix)
    ]
    pictures = np.rint(255 * np.array(rows)[..., 0]).astype(np.uint8)
    with outputs.replacing(args.out) as path:
        Image.fromarray(contact_sheet(pictures)).save(path)
    strengths = {name: x for name, x in config.augment.items() if x}
    print(f"{args.out}: originals, 6 rows of {strengths}, one of mixup, one of cutmix")


if __name__ == "__main__":
    with errors.reported():
        main()
