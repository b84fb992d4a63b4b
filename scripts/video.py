"""As `deepfer video`: faces of a video, a camera or a folder of images.

python scripts/video.py party.mp4 --out annotated.mp4 --csv faces.csv
python scripts/video.py 0 --csv faces.csv
"""

import sys

from deepfer_jax import errors

with errors.imports("video"):
    from deepfer_jax.commands import video

if __name__ == "__main__":
    with errors.reported():
        sys.exit(video.main())
