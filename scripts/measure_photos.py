"""Counts the faces found in photographs, and the emotions read as a viewer read them.

python scripts/measure_photos.py --photos FOLDER --model tiny,small

FOLDER holds photographs and faces.csv: file, left, top, right, bottom (pixels),
difficult (0 or 1), emotion (one of the seven, or empty). A face that is not difficult
is found if a detection overlaps it with an intersection over union of 0.4; what touches
a difficult face counts neither way, and any other detection is false. Prints JSON, of
numbers alone.
"""

import argparse
import csv
import json
import pathlib
import sys
import time
from collections import Counter, defaultdict

import numpy as np
import tqdm
from measuring import peers

from deepfer_jax import errors
from deepfer_jax.data.images import read_image, to_rgb
from deepfer_jax.faces.analyzer import Analyzer
from deepfer_jax.faces.boxes import overlap
from deepfer_jax.faces.photos import find_faces

# read: of those found, the ones whose emotion the viewer named.
COUNTED = ("faces", "found", "false", "false_without_faces")
COUNTED += ("read", "right", "sure", "sure_right")


def read_faces(path: pathlib.Path) -> dict[str, list[dict]]:
    faces = defaultdict(list)
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            sides = ("left", "top", "right", "bottom")
            row["box"] = np.array([float(row[side]) for side in sides])
            faces[row["file"]].append(row)
    return faces


def count(faces: list, true: list[dict], least: float = 0.4) -> Counter:
    """Of one photograph; `found` are Faces, the surest first."""
    result, left = Counter(faces=sum(t["difficult"] == "0" for t in true)), list(true)
    for face in faces:
        best = max(left, key=lambda t: overlap(face.box, t["box"]), default=None)
        if best is not None and overlap(face.box, best["box"]) >= least:
            left = [t for t in left if t is not best]
            result["found"] += best["difficult"] == "0"
            if best["emotion"]:
                right = face.label == best["emotion"]
                sure = not face.unsure
                result.update(read=1, right=right, sure=sure, sure_right=sure and right)
        elif all(
            overlap(face.box, t["box"]) < 0.15 for t in true if t["difficult"] == "1"
        ):
            result.update(false=1, false_without_faces=not true)
    return result


def read_images(folder: pathlib.Path) -> dict[str, np.ndarray]:
    files = sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png"))
    return {path.name: to_rgb(read_image(path)) for path in files}


def match(faces: list, true: list[dict]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Boxes found and labelled, [2, 4] of each labelled face that is found."""
    pairs = []
    for other in true:
        best = max(
            faces, key=lambda face: overlap(face.box, other["box"]), default=None
        )
        if best is not None and overlap(best.box, other["box"]) >= 0.4:
            pairs.append((best.box, other["box"]))
    return pairs


def describe_boxes(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, dict]:
    """How far boxes are off the labelled ones, by the labelled width in pixels.

    x and y are shifts in labelled sides (of the square as wide as the box is high),
    log2_side is that of the sides: [mean, standard deviation].
    """
    found, true = (np.array(boxes) for boxes in zip(*pairs, strict=True))
    sides = [(x[:, 2:] - x[:, :2]).max(1) for x in (found, true)]
    middles = [(x[:, 2:] + x[:, :2]) / 2 for x in (found, true)]
    shift = (middles[0] - middles[1]) / sides[1][:, None]
    width = true[:, 2] - true[:, 0]
    errors = {"x": shift[:, 0], "y": shift[:, 1]}
    errors["log2_side"] = np.log2(sides[0] / sides[1])
    return {
        name: {"faces": int(some.sum())}
        | {
            key: [round(float(f(x[some])), 3) for f in (np.mean, np.std)]
            for key, x in errors.items()
        }
        for name, some in (("below_64", width < 64), ("from_64", width >= 64))
    }


def measure(analyzer: Analyzer, folder: pathlib.Path, faces: dict) -> dict:
    total, seconds, pairs = Counter(), [], []
    images = read_images(folder)
    for name, image in tqdm.tqdm(images.items(), disable=None, leave=False):
        find_faces(analyzer, image)  # compiles what is new
        start = time.perf_counter()
        found = find_faces(analyzer, image)
        seconds.append(time.perf_counter() - start)
        total += count(found, faces[name])
        pairs += match(found, faces[name])
    facts = {"photographs": len(images), "median_s": round(np.median(seconds), 3)}
    boxes = {"boxes": describe_boxes(pairs)}
    return facts | {name: total[name] for name in COUNTED} | boxes


def measure_peers(args: argparse.Namespace, faces: dict) -> list[dict]:
    """The others on the same photographs.

    The boxes of human are wider than a face: for it an overlap of 0.15 is enough.
    """
    images = read_images(args.photos)
    readers = {}
    if args.fer_python:
        found = peers.read_with_fer(args.fer_python, list(images.values()))
        readers["fer"] = (found, 0.4)
    if args.peers:
        sys.path.append(str(pathlib.Path(__file__).parents[1]))
        from tests.chromium import open_page

        found = peers.read_with_human(args.peers, list(images.values()), open_page)
        readers["vladmandic/human"] = (found, 0.15)
    rows = []
    for reader, (found, least) in readers.items():
        counts = [
            count(some, faces[name], least)
            for name, some in zip(images, found, strict=True)
        ]
        total = sum(counts, Counter())
        row = {"model": reader, "photographs": len(images), "overlap": least}
        rows.append(row | {name: total[name] for name in COUNTED[:-2]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=pathlib.Path, required=True)
    parser.add_argument("--model", default="tiny", help="names or folders, with commas")
    parser.add_argument("--detector", default="auto", help="auto,full,short")
    parser.add_argument("--fer_python", help="a Python that has the package fer")
    parser.add_argument("--peers", type=pathlib.Path, help="of npm, with human")
    args = parser.parse_args()
    faces = read_faces(args.photos / "faces.csv")
    results = [
        {"model": model, "detector": detector}
        | measure(Analyzer(model, detector), args.photos, faces)
        for model in args.model.split(",")
        for detector in args.detector.split(",")
    ]
    print(json.dumps(results + measure_peers(args, faces), indent=2))


if __name__ == "__main__":
    with errors.reported():
        main()
