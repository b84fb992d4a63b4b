"""As `deepfer photos --json`: faces of images, a JSON line an image.

python scripts/predict.py photos/ more/photo.jpg
python scripts/predict.py --face faces/
python scripts/predict.py photo.jpg --out annotated/
"""

import sys

from deepfer_jax import errors

with errors.imports():
    from deepfer_jax.commands import photos

if __name__ == "__main__":
    with errors.reported():
        argv = sys.argv[1:]
        is_table = any(a.startswith(("--csv", "--parquet", "--json")) for a in argv)
        sys.exit(photos.main(argv if is_table else ["--json", *argv]))
