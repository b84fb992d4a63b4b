"""The command `deepfer`, and `python -m deepfer_jax`.

deepfer photos/ --csv faces.csv                           faces of photographs
deepfer video party.mp4 --out annotated.mp4 --csv t.csv   of a video or camera
deepfer bulk photos/ --out faces.parquet                  millions, on a Ray cluster too
deepfer demo                                              a page for the browser
deepfer models                                            what ships
deepfer train --config fer2013_tiny --workdir runs/tiny   training
deepfer export --workdir runs/tiny --out models/tiny      a model to use
"""

import importlib
import sys

from deepfer_jax import __version__, errors

# The module of each command, and the extra that it needs.
COMMANDS = {
    "photos": ("deepfer_jax.commands.photos", None),
    "video": ("deepfer_jax.commands.video", "video"),
    "bulk": ("deepfer_jax.commands.bulk", "bulk"),
    "demo": ("deepfer_jax.demo.__main__", "demo"),
    "models": ("deepfer_jax.commands.models", None),
    "train": ("deepfer_jax.commands.train", "train"),
    "export": ("deepfer_jax.commands.export", "train"),
}


def main() -> None:
    """Runs a command; without its name it is `photos`."""
    argv = sys.argv[1:]
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        sys.exit(0 if argv else 2)
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return
    name = argv.pop(0) if argv[0] in COMMANDS else "photos"
    module, extra = COMMANDS[name]
    with errors.imports(extra):
        command = importlib.import_module(module)
    with errors.reported():
        sys.exit(command.main(argv, prog=f"deepfer {name}"))


def _help() -> str:
    text = __doc__.partition("\n\n")[2]
    return (
        "Finds faces and classifies their expression.\n\n"
        f"{text}\nEach command tells more: deepfer video --help"
    )


if __name__ == "__main__":
    main()
