"""Finds the faces of photographs and classifies their expression.

deepfer photos/                                   a line a photograph
deepfer photos/ --csv faces.csv                   a table, a row a face
deepfer photos/ --out annotated                   pictures with a tag on every face
deepfer photos/ --explain why                     where each face was seen for its label
deepfer a.jpg b.jpg --json                        JSON lines
deepfer faces/ --face                             images that are faces already
"""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np
import tqdm

from deepfer_jax import errors, outputs
from deepfer_jax.data.images import find_images, read_image, to_rgb
from deepfer_jax.faces.analyzer import DETECTORS, Analyzer
from deepfer_jax.faces.explain import Explainer, draw_rows
from deepfer_jax.faces.face import Face
from deepfer_jax.faces.photos import draw_faces, find_faces, save_picture
from deepfer_jax.faces.tables import CsvTable, ParquetTable
from deepfer_jax.inference import DEFAULT_MODEL, Predictor


def parse(argv: list[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    head, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog=prog,
        description=head,
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("paths", nargs="+", help="image files, or folders of them")
    add(
        "--model",
        default=DEFAULT_MODEL,
        help="a name that ships, or a folder (%(default)s)",
    )
    add("--detector", default="auto", choices=DETECTORS, help="short: fast, near faces")
    add("--face", action="store_true", help="each image is one face, already cropped")
    add("--out", type=pathlib.Path, help="folder for pictures with tags")
    add("--explain", type=pathlib.Path, help="folder for heat maps of every face")
    add("--bars", action="store_true", help="draw every probability on them too")
    table = parser.add_mutually_exclusive_group()
    table.add_argument("--csv", help="table to write, a row a face; it is resumed")
    table.add_argument("--parquet", help="the same as a Parquet file")
    table.add_argument("--json", action="store_true", help="print a JSON line a photo")
    add("--no-cache", action="store_true", help="keep nothing that is compiled")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; returns 1 if a photograph could not be read."""
    args = parse(argv, prog)
    paths = list(find_images(args.paths))
    if not paths:
        raise errors.UserError(f"{', '.join(args.paths)}: no image is there")
    pictures = name_pictures(paths, args.out) if args.out else {}
    heat_maps = name_pictures(paths, args.explain) if args.explain else {}
    outputs.check([*pictures.values(), *heat_maps.values()], [])
    written = [path for path in (args.csv, args.parquet) if path]
    outputs.check(written, [path.resolve() for path in paths])
    cache = not args.no_cache
    model: Predictor | Analyzer
    if args.face:
        model = Predictor(args.model, cache)
        read = functools.partial(_read_face, model)
    else:
        model = Analyzer(args.model, args.detector, cache)
        read = functools.partial(_read_photo, model)
    if args.explain:
        explainer = Explainer(args.model, args.detector, cache)
    failures = 0
    with contextlib.ExitStack() as stack:
        table = _open_table(args, model.classes)
        if table is not None:
            stack.callback(table.close)
            paths = [path for path in paths if str(path) not in table.done]
        progress = Progress(len(paths), stack)
        for path in paths:
            faces: list[Face] = []
            error, line = None, {"file": str(path)}
            try:
                image = read_image(path)
                faces, more = read(image)
                line |= more
                if path in pictures:
                    args_of_draw = (to_rgb(image), faces, model.classes, args.bars)
                    picture = draw_faces(*args_of_draw)
                    line["annotated"] = save_picture(picture, pictures[path])
                if path in heat_maps and faces:
                    rows = explainer.explain(to_rgb(image), faces, args.face)
                    picture = draw_rows(rows, faces)
                    line["explained"] = save_picture(picture, heat_maps[path])
            except errors.UserError as failed:
                error = line["error"] = str(failed)
                failures += 1
            if table is not None:
                table.write(str(path), faces, error)
            else:
                progress.print(json.dumps(line) if args.json else _say(line))
            progress.update(len(faces))
    if table is not None:
        progress.print(
            f"{len(paths)} photographs, {progress.num_faces} faces: {written[0]}"
        )
    return 1 if failures else 0


class Progress:
    """A bar on a terminal: photographs, time left, faces a second."""

    def __init__(self, num: int, stack: contextlib.ExitStack):
        self._bar = stack.enter_context(
            tqdm.tqdm(total=num, unit="photo", disable=None if num > 1 else True)
        )
        self._start, self.num_faces = time.perf_counter(), 0

    def update(self, num_faces: int) -> None:
        self.num_faces += num_faces
        rate = self.num_faces / (time.perf_counter() - self._start)
        self._bar.set_postfix_str(f"{rate:.0f} faces/s", refresh=False)
        self._bar.update()

    def print(self, text: str) -> None:
        """Prints a line above the bar."""
        with self._bar.external_write_mode(file=sys.stdout):
            print(text, flush=True)


def _open_table(args: argparse.Namespace, classes) -> CsvTable | ParquetTable | None:
    if args.csv:
        return CsvTable(args.csv, classes)
    return ParquetTable(args.parquet, classes) if args.parquet else None


def _read_photo(
    analyzer: Analyzer, image: np.ndarray
) -> tuple[list[Face], dict[str, Any]]:
    faces = find_faces(analyzer, to_rgb(image))
    return faces, {"faces": [face.as_dict(analyzer.classes) for face in faces]}


def _read_face(
    predictor: Predictor, image: np.ndarray
) -> tuple[list[Face], dict[str, Any]]:
    prediction = predictor.classify([image])[0]
    height, width = image.shape[:2]
    box = np.array([0, 0, width, height], np.float32)
    face = Face(box, 1.0, np.zeros((0, 2), np.float32), **prediction._asdict())
    probabilities = prediction.probabilities.tolist()
    line = prediction._asdict() | {
        "probabilities": dict(zip(predictor.classes, probabilities, strict=True))
    }
    return [face], line


def _say(line: dict[str, Any]) -> str:
    """A line for people."""
    if "error" in line:
        return f"{line['file']}: {line['error']}"
    faces = line.get("faces", [line])
    said = [
        f"{face['label']}{'?' if face['unsure'] else ''} {face['probability']:.0%}"
        for face in faces
    ]
    pictures = [line[key] for key in ("annotated", "explained") if key in line]
    where = f" -> {', '.join(pictures)}" if pictures else ""
    return f"{line['file']}: {', '.join(said) or 'no face'}{where}"


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
