"""Lists the models that ship, or tells what is known of one.

deepfer models                                    a line a model
deepfer models small                              its metadata, as JSON
"""

import argparse
import json

from deepfer_jax.exported import ExportedModel, shipped_models
from deepfer_jax.inference import DEFAULT_MODEL


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", help="a name, or a folder")
    args = parser.parse_args(argv)
    if args.model:
        print(json.dumps(ExportedModel(args.model).metadata, indent=2))
        return 0
    for name in shipped_models():
        metadata = ExportedModel(name).metadata
        accuracy = metadata["metrics"]["validation"]["accuracy"]
        default = " (the default)" if name == DEFAULT_MODEL else ""
        print(
            f"{name:<14}{metadata['num_parameters'] / 1e6:5.2f} M parameters  "
            f"{accuracy:.1%} on {metadata['training_data']['name']} "
            f"{metadata['training_data']['validation_split']}{default}"
        )
    return 0
