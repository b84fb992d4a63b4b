"""Finds the faces in images and reads their emotions: one JSON line an image.

python scripts/predict.py photos/ more/photo.jpg
python scripts/predict.py --face faces/
python scripts/predict.py photo.jpg --out annotated/

With --face each image is one face, already cropped. Needs jax, numpy, flatbuffers and
Pillow.
"""

import argparse
import json
import os
import pathlib
import sys
from typing import Any

from deepfer_jax import errors, outputs

with errors.imports():
    from deepfer_jax.data.images import ImageError, find_images, read_image, to_rgb
    from deepfer_jax.faces.analyzer import DETECTORS, Analyzer
    from deepfer_jax.faces.photos import draw_faces, find_faces, save_picture
    from deepfer_jax.inference import DEFAULT_MODEL, Predictor


def read_face(predictor: Predictor, path: pathlib.Path) -> dict[str, Any]:
    prediction = predictor.classify([read_image(path)])[0]
    probabilities = prediction.probabilities.tolist()
    return {
        "label": prediction.label,
        "probability": prediction.probability,
        "unsure": prediction.unsure,
        "probabilities": dict(zip(predictor.classes, probabilities, strict=True)),
    }


def name_pictures(
    paths: list[pathlib.Path], out: pathlib.Path
) -> dict[pathlib.Path, pathlib.Path]:
    """Where each image's picture goes: below `out` as the images lie, all JPEG.

    Raises:
      UserError: a picture would lie where an image is, or where another would.
    """
    whole = [path.resolve() for path in paths]
    root = os.path.commonpath([path.parent for path in whole]) if whole else ""
    names = {}
    for path, full in zip(paths, whole, strict=True):
        name = out / full.relative_to(root)
        is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
        names[path] = name if is_jpeg else name.with_name(f"{name.name}.jpg")
    by_image = dict(zip(whole, names.values(), strict=True))
    outputs.check(by_image.values(), whole)
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="a name that ships, or a folder")
    add("--detector", default="auto", choices=DETECTORS, help="short: fast, near faces")
    add("--face", action="store_true", help="each image is one face, already cropped")
    add("--out", type=pathlib.Path, help="folder for the pictures with boxes on them")
    add("--no-cache", action="store_true", help="keep nothing that is compiled")
    add("paths", nargs="+", help="image files, or folders of them")
    args = parser.parse_args()

    cache = not args.no_cache
    if args.face:
        model = Predictor(args.model, cache)
    else:
        model = Analyzer(args.model, args.detector, cache)
    paths = list(find_images(args.paths))
    if not paths:
        raise errors.UserError(f"{', '.join(args.paths)}: no image is there")
    pictures = name_pictures(paths, args.out) if args.out else {}
    failures = 0
    for path in paths:
        line = {"file": str(path)}
        try:
            if args.face:
                line |= read_face(model, path)
            else:
                image = to_rgb(read_image(path))
                faces = find_faces(model, image)
                line["faces"] = [face.as_dict(model.classes) for face in faces]
                if args.out:
                    picture = draw_faces(image, faces, model.classes)
                    line["annotated"] = save_picture(picture, pictures[path])
        except (ImageError, errors.UserError) as error:
            line["error"] = str(error)
            failures += 1
        print(json.dumps(line), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    with errors.reported():
        sys.exit(main())
