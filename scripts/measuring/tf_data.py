"""Whether the pipeline `tf.data` holds as much memory for much data as for little.

    measure_pipeline(folder, nums=(50_000, 200_000))

Faces are made of drawn ones and noise, prepared as tfrecord, and read for an epoch with
the default shuffle buffer, each number in a process of its own: faces; mib of that
process after each tenth of the epoch, and most_mib; and pixels_mib of the split, which
`resident` would hold.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import psutil
import tensorflow_datasets as tfds

from configs import default
from deepfer_jax.data import datasets
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.features import encode_png
from deepfer_jax.data.pipeline import create_pipeline
from deepfer_jax.data.synthetic.builder import (
    SyntheticConfig,
    SyntheticFaces,
    draw_face,
)

_BATCH_SIZE = 256
_NUM_DRAWN = 200


def measure_pipeline(
    folder: pathlib.Path, nums: tuple[int, ...], environment: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A row for each number of faces."""
    rows = []
    for num in nums:
        program = f"from measuring import tf_data; tf_data.read_epoch({str(folder)!r}, "
        prepare_faces(folder, num)
        answer = subprocess.run(
            [sys.executable, "-c", f"{program}{num})"],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        rows.append(json.loads(answer.stdout.splitlines()[-1]))
    return rows


class ManyFaces(SyntheticFaces):
    """Drawn faces, each time with other noise; training faces alone."""

    name = "many_faces"

    def _split_generators(self, dl_manager):
        number = self.builder_config.num_train
        return {"train": self._generate_examples("train", number)}

    def _generate_examples(self, split: str, number: int):
        drawn = [
            draw_face(np.random.default_rng(i), EMOTIONS[i % len(EMOTIONS)])
            for i in range(_NUM_DRAWN)
        ]
        for i in range(number):
            noise = np.random.default_rng(i).integers(-8, 9, drawn[0].shape)
            face = (drawn[i % _NUM_DRAWN] + noise).clip(0, 255).astype(np.uint8)
            label = EMOTIONS[i % _NUM_DRAWN % len(EMOTIONS)]
            yield i, {"image": encode_png(face), "label": label, "id": f"{split}_{i}"}


def create_builder(folder: pathlib.Path | str, num: int) -> ManyFaces:
    config = SyntheticConfig(name=f"n{num}", num_train=num)
    return ManyFaces(config=config, data_dir=str(folder), file_format="tfrecord")


def prepare_faces(folder: pathlib.Path, num: int) -> None:
    datasets.generate(create_builder(folder, num), tfds.download.DownloadConfig())


def read_epoch(folder: str, num: int) -> None:
    """Reads all batches of an epoch, and prints what that took."""
    builder = datasets.open_prepared(create_builder(folder, num).data_path)
    buffer = default.get_config().dataset.shuffle_buffer
    pipeline = create_pipeline("tf.data", builder, "train", _BATCH_SIZE, 0, buffer)
    seen, mib = 0, []
    tenth = pipeline.steps_per_epoch // 10
    for step, (_, batch) in enumerate(pipeline.epoch(0, 0, 1), 1):
        seen += batch["label"].size
        if step % tenth == 0:
            mib.append(round(psutil.Process().memory_info().rss / 2**20, 1))
    # Not getrusage's, which begins with that of the process that started this one.
    status = pathlib.Path("/proc/self/status").read_text()
    most = int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    row = {
        "faces": num,
        "read": seen,
        "mib": mib,
        "most_mib": round(most, 1),
        "pixels_mib": round(num * 48 * 48 / 2**20, 1),
    }
    print(json.dumps(row))
