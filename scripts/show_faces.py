"""Draws a sheet of faces, a row an emotion, a column a person, to look at.

python scripts/show_faces.py --dataset synthetic_faces --out faces.png
"""

import argparse

from deepfer_jax import errors, outputs

with errors.imports("train"):
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    from deepfer_jax.data.contact_sheet import GAP, contact_sheet
    from deepfer_jax.data.emotions import EMOTIONS
    from deepfer_jax.data.synthetic.builder import draw_face

_MARGIN = 76


def name_rows(sheet: np.ndarray, names: tuple[str, ...]) -> Image.Image:
    """Writes names at the left of a sheet's rows."""
    image = Image.new("L", (sheet.shape[1] + _MARGIN, sheet.shape[0]), 255)
    image.paste(Image.fromarray(sheet), (_MARGIN, 0))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=15)
    height = (sheet.shape[0] - GAP) / len(names)
    for row, name in enumerate(names):
        where = (_MARGIN - 8, GAP + (row + 0.5) * height)
        draw.text(where, name, fill=0, font=font, anchor="rm")
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--dataset", choices=["synthetic_faces"], default="synthetic_faces"
    )
    parser.add_argument("--out", required=True, help="the PNG file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=14, help="how many people")
    parser.add_argument("--scale", type=int, default=2)
    args = parser.parse_args()
    people = [(args.seed, column) for column in range(args.columns)]
    faces = [
        [draw_face(np.random.default_rng(person), name) for person in people]
        for name in EMOTIONS
    ]
    sheet = contact_sheet(np.array(faces), args.scale)
    with outputs.replacing(args.out) as path:
        name_rows(sheet, EMOTIONS).save(path)
    print(args.out)


if __name__ == "__main__":
    with errors.reported():
        main()
