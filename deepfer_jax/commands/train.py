"""Trains a network, as `python -m deepfer_jax.main` does.

deepfer train --config fer2013_tiny --workdir runs/tiny
deepfer train --config my_recipe.py --workdir runs/mine --config.train.num_epochs=3

--config is a file, or the name of a recipe that ships. Fields of the configuration
follow it.
"""

import importlib
import pathlib
import sys

from absl import app, flags

import deepfer_jax
from deepfer_jax import errors
from deepfer_jax import main as training

_SHIPPED = pathlib.Path(deepfer_jax.__file__).parent / "configs"


def find_recipe(name: str) -> str:
    """The file of a recipe: itself, one of ./configs, or one that ships.

    Raises:
      UserError: there is none; it names those that ship.
    """
    path, colon, argument = name.partition(":")
    for candidate in (
        pathlib.Path(path),
        pathlib.Path("configs", f"{path}.py"),
        _SHIPPED / f"{path}.py",
    ):
        if candidate.is_file():
            return f"{candidate}{colon}{argument}"
    folder = _SHIPPED if _SHIPPED.exists() else pathlib.Path("configs")
    names = sorted(x.stem for x in folder.glob("*.py") if x.stem != "__init__")
    raise errors.UserError(
        f"--config: {path} is no file, and no recipe that ships: {', '.join(names)}"
    )


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Runs the command; it does not return."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or {"-h", "--help"} & set(argv):
        print(__doc__.replace("deepfer train", prog or "deepfer train"))
        return 0 if argv else 2
    argv = list(argv)
    for i, argument in enumerate(argv):
        if argument == "--config" and i + 1 < len(argv):
            argv[i + 1] = find_recipe(argv[i + 1])
        elif argument.startswith("--config="):
            argv[i] = f"--config={find_recipe(argument.partition('=')[2])}"
    _let_recipes_import_each_other()
    sys.argv = [prog or sys.argv[0], *argv]
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(training.main, flags_parser=training.parse_flags)
    return 0


def _let_recipes_import_each_other() -> None:
    """They say `from configs import default`, wherever their folder lies."""
    sys.path.insert(0, "")
    try:
        importlib.import_module("configs.default")
    except ImportError:
        sys.modules.pop("configs", None)
        package = importlib.import_module("deepfer_jax.configs")
        sys.modules["configs"] = package
        for path in _SHIPPED.glob("*.py"):
            if path.stem != "__init__":
                name = f"deepfer_jax.configs.{path.stem}"
                sys.modules[f"configs.{path.stem}"] = importlib.import_module(name)
