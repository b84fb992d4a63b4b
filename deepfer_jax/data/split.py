"""A whole split in memory, in stored order.

faces = Split(builder, "public_test")
faces.relabel(trained.classes)
for batch in faces.in_order(256): ...
"""

import functools
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deepfer_jax.data import datasets

Batch = dict[str, Any]


class Split:
    """Images, labels and ids of a split.

    Args:
      builder: a prepared data set.
      split: its name.
      leave_out: bool [N]: which stored examples are not used.

    Attributes:
      ids: of every example.
      num_examples: without those left out.
      image_shape: (height, width, channels).
      classes: names of the labels.
    """

    def __init__(self, builder, split: str, leave_out: np.ndarray | None = None):
        arrays = datasets.load_split(builder, split)
        self.ids = arrays.pop("id")
        self._arrays = arrays
        if leave_out is not None:
            self.ids = list(itertools.compress(self.ids, ~leave_out))
            self._arrays = {name: x[~leave_out] for name, x in arrays.items()}
        self.num_examples = len(self.ids)
        self.image_shape = self._arrays["image"].shape[1:]
        self.classes = tuple(builder.info.features["label"].names)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of every pixel and label, in order: other data has another one."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for name in sorted(self._arrays):
            digest.update(np.ascontiguousarray(self._arrays[name]).data)
        return digest.hexdigest()[:16]

    @property
    def labels(self) -> np.ndarray:
        """int32 [num_examples]."""
        return np.asarray(self._arrays["label"])

    @property
    def label_counts(self) -> np.ndarray:
        """int [classes]: examples of each class."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def relabel(self, classes: Sequence[str]) -> None:
        """Makes labels indices of these classes, by name.

        Raises:
          ValueError: there are faces of another class.
        """
        names = list(classes)
        table = [names.index(c) if c in names else -1 for c in self.classes]
        labels = np.array(table, np.int32)[self.labels]
        if (labels < 0).any():
            unknown = self.classes[self.labels[np.argmin(labels)]]
            raise ValueError(f"holds faces of class {unknown!r}, not one of {names}")
        self._arrays["label"], self.classes = labels, tuple(names)

    def replace_targets(self, targets: np.ndarray) -> None:
        """Gives the faces these soft labels; `fingerprint` stays that of the data.

        Args:
          targets: float32 [num_examples, classes], rows that sum to 1.
        """
        _ = self.fingerprint  # which is kept from now on
        self._arrays = self._arrays | {"target": targets}

    def in_order(self, batch_size: int, rows: slice | None = None) -> Iterator[Batch]:
        """Yields numpy batches of image, label, maybe target; the last may be small.

        Args:
          batch_size: examples a batch.
          rows: of every batch, those that are read; of the last they may be fewer, or
            none.
        """
        arrays = {name: np.asarray(x) for name, x in self._arrays.items()}
        for start in range(0, self.num_examples, batch_size):
            batch = {name: x[start : start + batch_size] for name, x in arrays.items()}
            yield {name: x[rows] for name, x in batch.items()} if rows else batch
