"""Finds and follows the faces of a video, a camera or a folder of images.

deepfer video party.mp4 --out annotated.mp4 --csv faces.csv
deepfer video 0 --csv faces.csv

The input is a file, the number of a camera (Ctrl-C ends it), or a folder. What is
written is H.264 in MP4, or VP9 in WebM, with the sound of the input.
"""

import argparse
import contextlib
import math
import pathlib
import sys
from collections.abc import Iterator

from tqdm import tqdm

from deepfer_jax import errors, outputs
from deepfer_jax.faces.analyzer import DETECTORS, Analyzer
from deepfer_jax.faces.tracking import Tracker
from deepfer_jax.faces.video import CsvWriter, VideoWriter, follow, open_frames
from deepfer_jax.inference import DEFAULT_MODEL


@contextlib.contextmanager
def _until_interrupted(source: str) -> Iterator[None]:
    """Ctrl-C keeps what is written; it is how a camera ends, and cuts a file short."""
    try:
        yield
    except KeyboardInterrupt:
        if not source.isdecimal():
            print("interrupted: what was read till then is kept", file=sys.stderr)
            raise


def parse(argv: list[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("input", help="video file, number of a camera, or folder of images")
    add("--model", default=DEFAULT_MODEL, help="a name that ships, or a folder (tiny)")
    add("--detector", default="auto", choices=DETECTORS, help="short: fast, near faces")
    add("--out", help="video to write, .mp4 or .webm, with a tag on every face")
    add("--bars", action="store_true", help="draw every probability on it too")
    add("--csv", help="table to write, a row a face a frame")
    add("--smoothing", type=float, default=0.4, help="time constant in seconds (0.4)")
    add("--no-cache", action="store_true", help="keep nothing that is compiled")
    args = parser.parse_args(argv)
    written = [path for path in (args.out, args.csv) if path]
    outputs.check(written, [args.input, *pathlib.Path(args.input).glob("*")])
    if not (math.isfinite(args.smoothing) and args.smoothing >= 0):
        raise errors.UserError(
            f"--smoothing: expected seconds, 0 or more, found {args.smoothing}"
        )
    return args


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Runs the command."""
    args = parse(argv, prog)
    analyzer = Analyzer(args.model, args.detector, not args.no_cache)
    tracker = Tracker(analyzer.classes, analyzer.threshold, args.smoothing)
    with contextlib.ExitStack() as stack:
        frames = stack.enter_context(open_frames(args.input))
        writers: list[CsvWriter | VideoWriter] = []
        if args.csv:
            path = stack.enter_context(outputs.replacing(args.csv))
            writers.append(CsvWriter(path, analyzer.classes))
        if args.out:
            path = stack.enter_context(outputs.replacing(args.out))
            writers.append(
                VideoWriter(path, frames.rate, analyzer.classes, args.bars, args.input)
            )
        for writer in writers:
            stack.callback(writer.close)
        progress = stack.enter_context(tqdm(total=frames.num, unit="frame"))
        num_faces = 0
        with _until_interrupted(args.input):
            for moment in follow(analyzer, frames, tracker):
                for writer in writers:
                    writer.write(moment)
                num_faces += len(moment.faces)
                progress.update()
    print(f"{progress.n} frames, {num_faces} faces in them")
    return 0
