"""Reads the emotions of faces in a video, a camera or a folder of images.

python scripts/video.py party.mp4 --out annotated.mp4 --csv faces.csv
python scripts/video.py 0 --csv faces.csv

The input is a file, the number of a camera (Ctrl-C ends it), or a folder.
"""

import argparse
import contextlib
import math
import pathlib
import sys

from deepfer_jax import errors, outputs

with errors.imports("video"):
    from tqdm import tqdm

    from deepfer_jax.faces.analyzer import DETECTORS, Analyzer
    from deepfer_jax.faces.tracking import Tracker
    from deepfer_jax.faces.video import CsvWriter, VideoWriter, follow, open_frames
    from deepfer_jax.inference import DEFAULT_MODEL


@contextlib.contextmanager
def _until_interrupted(source: str):
    """Ctrl-C keeps what is written; it is how a camera ends, and cuts a file short."""
    try:
        yield
    except KeyboardInterrupt:
        if not source.isdecimal():
            print("interrupted: what was read till then is kept", file=sys.stderr)
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, help="a name that ships, or a folder")
    add("--detector", default="auto", choices=DETECTORS, help="short: fast, near faces")
    add("--out", help="video to write, .mp4, with boxes and bars")
    add("--csv", help="table to write, a row a face a frame")
    add("--smoothing", type=float, default=0.4, help="time constant in seconds")
    add("--no-cache", action="store_true", help="keep nothing that is compiled")
    add("input", help="video file, number of a camera, or folder of images")
    args = parser.parse_args()

    written = [path for path in (args.out, args.csv) if path]
    outputs.check(written, [args.input, *pathlib.Path(args.input).glob("*")])
    if not (math.isfinite(args.smoothing) and args.smoothing >= 0):
        raise errors.UserError(
            f"--smoothing: expected seconds, 0 or more, found {args.smoothing}"
        )
    analyzer = Analyzer(args.model, args.detector, not args.no_cache)
    tracker = Tracker(analyzer.classes, analyzer.threshold, args.smoothing)
    with contextlib.ExitStack() as stack:
        frames = stack.enter_context(open_frames(args.input))
        writers = []
        if args.csv:
            path = stack.enter_context(outputs.replacing(args.csv))
            writers.append(CsvWriter(path, analyzer.classes))
        if args.out:
            path = stack.enter_context(outputs.replacing(args.out))
            writers.append(VideoWriter(path, frames.rate, analyzer.classes))
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


if __name__ == "__main__":
    with errors.reported():
        main()
