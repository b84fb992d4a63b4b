"""As `deepfer export`: the best checkpoint of a run as one folder for jax alone.

python scripts/export.py --workdir runs/quickstart --out models/quickstart
"""

import sys

from deepfer_jax import errors

with errors.imports("train"):
    from deepfer_jax.commands import export

if __name__ == "__main__":
    with errors.reported():
        sys.exit(export.main())
