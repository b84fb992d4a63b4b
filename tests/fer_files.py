"""Small FER2013 files of random faces, made on the spot: csv and folders."""

import numpy as np
from PIL import Image

from deepfer_jax.data.emotions import EMOTIONS

HEADER = ("emotion", "pixels", "Usage")
NEW_HEADER = ("emotion", " Usage", " pixels")


def random_rows(usage, number=7, seed=0):
    """A list of {emotion, pixels, Usage}; pixels: uint8 [48, 48]."""
    rng = np.random.default_rng([seed, len(usage)])
    return [
        {
            "emotion": i % len(EMOTIONS),
            "pixels": rng.integers(0, 256, (48, 48), np.uint8),
            "Usage": usage,
        }
        for i in range(number)
    ]


def all_rows():
    """Rows of the three splits, mixed."""
    rows = random_rows("Training", 14) + random_rows("PublicTest", 7)
    rows += random_rows("PrivateTest", 8)
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def csv_text(rows, header=HEADER):
    lines = [",".join(header)]
    for row in rows:
        pixels = row["pixels"]
        if isinstance(pixels, np.ndarray):
            pixels = " ".join(map(str, pixels.ravel()))
        fields = {**row, "pixels": pixels}
        lines.append(",".join(str(fields[name.strip()]) for name in header))
    return "\n".join(lines) + "\n"


def write_csv(folder, rows, header=HEADER, name="fer2013.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(csv_text(rows, header))
    return folder


def write_folders(folder, rows, names=EMOTIONS, suffix=".png"):
    """train|test/<name>/<Usage>_<row><suffix>"""
    for i, row in enumerate(rows):
        split = "train" if row["Usage"] == "Training" else "test"
        path = folder / split / names[row["emotion"]] / f"{row['Usage']}_{i}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row["pixels"]).save(path)
    return folder
