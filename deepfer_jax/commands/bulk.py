"""Reads photographs and videos in bulk into a folder of Parquet files.

deepfer bulk photos/ --out faces.parquet                    on all cores of this machine
deepfer bulk 's3://bucket/**/*.jpg' --out faces.parquet --address auto      on a cluster
deepfer bulk pictures.parquet --column image --out faces.parquet

The inputs are files, folders, patterns, and Parquet tables with a column of paths or of
pictures' bytes; addresses such as s3://... too. A photograph becomes a row with a list
of its faces, or with an error; a video, a row a frame. Run again, the command goes on
where it was: the list of inputs is made once.
"""

import argparse
import contextlib
import json
import pathlib
from collections.abc import Iterator

import pyarrow as pa
import tqdm

from deepfer_jax import errors
from deepfer_jax.bulk import cluster, threads
from deepfer_jax.bulk.listing import Listing, find, spell, write_listing
from deepfer_jax.bulk.parts import Parts, locked
from deepfer_jax.bulk.rows import ReaderOptions, row_schema
from deepfer_jax.exported import ExportedModel, checksum
from deepfer_jax.faces.analyzer import DETECTORS
from deepfer_jax.faces.video import import_cv2
from deepfer_jax.inference import DEFAULT_MODEL

_LISTING = "_inputs.parquet"


def parse(argv: list[str] | None = None, prog: str | None = None) -> argparse.Namespace:
    head, _, examples = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog=prog,
        description=head,
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("inputs", nargs="+", help="files, folders, patterns, Parquet tables, addresses")
    add(
        "--out", type=pathlib.Path, required=True, help="folder to write; it is resumed"
    )
    add("--address", help="of a Ray cluster: auto, ray://HOST:10001, local")
    add(
        "--model",
        default=DEFAULT_MODEL,
        help="a name that ships, or a folder (%(default)s)",
    )
    add("--detector", default="auto", choices=DETECTORS, help="short: fast, near faces")
    add("--column", help="of Parquet inputs, where it is not plain which one is meant")
    add("--part_rows", type=int, default=1000, help="rows in a file (%(default)s)")
    add("--no-cache", action="store_true", help="keep nothing that is compiled")
    args = parser.parse_args(argv)
    if args.part_rows < 1:
        raise errors.UserError(f"--part_rows: expected 1 or more, not {args.part_rows}")
    return args


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Runs the command."""
    args = parse(argv, prog)
    if args.address:
        cluster.import_ray()
    model = ExportedModel(args.model)
    options = ReaderOptions(
        args.model, args.detector, not args.no_cache, checksum(model.metadata)
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(args.out))
        listing = _open_listing(args, options)
        schema = row_schema(model.metadata["classes"])
        parts = stack.enter_context(
            Parts(args.out, schema, listing.num, args.part_rows)
        )
        num_left = listing.num - int(parts.done.sum())
        bar = tqdm.tqdm(total=num_left, unit="file", disable=None)
        stack.enter_context(bar)
        for table in _read(listing, parts, options, args.address):
            bar.update(parts.write(table))
            bar.set_postfix_str(f"{parts.num_faces} faces", refresh=False)
    print(
        f"{num_left:,} of {listing.num:,} read now, {parts.num_faces:,} faces, "
        f"{parts.num_errors:,} errors: {args.out}"
    )
    return 0


def _read(
    listing: Listing, parts: Parts, options: ReaderOptions, address: str | None
) -> Iterator[pa.Table]:
    if parts.done.all():
        return iter(())
    if address:
        return cluster.read(listing, parts.done, options, address)
    return threads.read(listing, parts.done, options)


def _open_listing(args: argparse.Namespace, options: ReaderOptions) -> Listing:
    """The list of inputs, made if there is none.

    Raises:
      UserError: there is one, of other inputs or for another model.
    """
    path = args.out / _LISTING
    about = {
        "inputs": json.dumps([spell(given) for given in args.inputs]),
        "column": args.column or "",
        "model": options.checksum or "",
        "detector": options.detector,
    }
    if not path.exists():
        write_listing(path, find(args.inputs, args.column), about)
    listing = Listing(path)
    for name, wanted in about.items():
        if listing.about.get(name) != wanted:
            raise errors.UserError(
                f"{args.out} was begun with another {name}: expected "
                f"{listing.about.get(name)}, found {wanted}: name another --out"
            )
    if not listing.num:
        path.unlink()
        raise errors.UserError(f"{', '.join(args.inputs)}: no image is there")
    if listing.num_videos:
        import_cv2()
    return listing
