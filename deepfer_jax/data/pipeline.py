"""Two input pipelines with one interface: `Resident` and `TfData`.

    pipeline = create_pipeline("resident", builder, "train", batch_size=64, ...)
    for resident, inputs in pipeline.epoch(epoch, first_step, steps_per_call):
        state, metrics = run_steps(state, resident, inputs)

`epoch` yields what `parallel.pmap_train` wants: a replicated tree, and inputs with
leading axes [local devices, steps], always steps_per_call of them: the last are
repeated where an epoch ends before. Inside the compiled step, `lookup` makes a batch of
one device's inputs for one step. The order of an epoch is a function of (seed, epoch)
alone, so that a run which starts again at any step sees the batches it would have seen.

An epoch has num_examples // batch_size steps; the rest of its order is left out,
another rest every epoch. `in_order` yields the whole split as it is stored, for
evaluation. A batch holds image, label and, where the data set has it, target (soft
labels).

Where several processes train together, each makes the inputs of its own devices alone,
and all together make those of one process with as many devices. `Resident` is held by
each whole. `TfData` walks the same stored bytes in each, since the shuffle's order is
that of the whole split; each decodes, which is what takes time, only its own rows of
every batch.
"""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from deepfer_jax import parallel
from deepfer_jax.data import datasets
from deepfer_jax.data.split import Split
from deepfer_jax.errors import UserError
from deepfer_jax.keys import order_key

Batch = dict[str, Any]


def _steps_per_epoch(num_examples: int, batch_size: int, split: str) -> int:
    if batch_size % parallel.num_devices():
        raise UserError(
            f"config.train.batch_size={batch_size} cannot be shared equally by "
            f"{parallel.num_devices()} devices: choose a multiple of it"
        )
    if batch_size > num_examples:
        raise UserError(
            f"config.train.batch_size={batch_size} is larger than split {split!r} with "
            f"its {num_examples} faces: choose a smaller batch"
        )
    return num_examples // batch_size


class Resident(Split):
    """The whole split on every device as uint8; no host work in a step.

    Args:
      builder: a prepared data set.
      split: its name.
      batch_size: examples a training step, over all devices.
      seed: of the order.
      leave_out: bool [N]: which stored examples are not used.
    """

    def __init__(
        self,
        builder,
        split: str,
        batch_size: int,
        seed: int,
        leave_out: np.ndarray | None = None,
    ):
        super().__init__(builder, split, leave_out)
        self._split, self._batch_size, self._seed = split, batch_size, seed

    @property
    def steps_per_epoch(self) -> int:
        return _steps_per_epoch(self.num_examples, self._batch_size, self._split)

    def epoch(
        self, epoch: int, first_step: int, steps_per_call: int
    ) -> Iterator[tuple[Batch, jax.Array]]:
        """Yields (resident, inputs) from `first_step` (of this epoch) on."""
        if not isinstance(self._arrays["image"], jax.Array):
            self._arrays = parallel.replicate(self._arrays)
        resident = self._arrays | {"order": parallel.replicate(self._order(epoch))}
        # All of an epoch's calls at once, so that a step takes nothing from the host.
        calls = []
        for start in range(first_step, self.steps_per_epoch, steps_per_call):
            steps = np.arange(start, start + steps_per_call, dtype=np.int32)
            steps = np.minimum(steps, self.steps_per_epoch - 1)
            devices = parallel.local_device_numbers()
            calls.append(np.stack(np.broadcast_arrays(steps, devices[:, None]), -1))
        for inputs in parallel.shard(calls):
            yield resident, inputs

    def _order(self, epoch: int) -> jax.Array:
        """int32 [steps, devices, batch / devices]: which example goes where."""
        order = jax.random.permutation(order_key(self._seed, epoch), self.num_examples)
        used = order[: self.steps_per_epoch * self._batch_size]
        return used.reshape(self.steps_per_epoch, parallel.num_devices(), -1)

    @staticmethod
    def lookup(resident: Batch, inputs: jax.Array) -> Batch:
        """inputs: int32 [2], the step of the epoch and the device's number."""
        examples = resident["order"][inputs[0], inputs[1]]
        return {name: x[examples] for name, x in resident.items() if name != "order"}


def _stored_examples(builder, split: str, leave_out: np.ndarray | None):
    """Returns a tf.data.Dataset of {image: encoded, label, id} in stored order."""
    datasets.check_split(builder, split)
    if builder.info.file_format.value != "tfrecord":
        raise UserError(
            "config.dataset.pipeline='tf.data' reads tfrecord, but "
            f"{builder.data_path} holds {builder.info.file_format.value}: prepare it "
            "with --file_format tfrecord into another --data_dir, or use the pipeline "
            "'resident'"
        )
    if not datasets.has_tensorflow():
        raise UserError(
            "config.dataset.pipeline='tf.data' needs TensorFlow, which is not "
            "installed: install it, or use the pipeline 'resident'"
        )
    import tensorflow_datasets as tfds

    tf = datasets.import_tensorflow()
    stored = builder.as_dataset(
        split=split, shuffle_files=False, decoders={"image": tfds.decode.SkipDecoding()}
    )
    if leave_out is None:
        return stored
    keep = tf.constant(~leave_out)
    return (
        stored.enumerate()
        .filter(lambda place, _: keep[place])
        .map(lambda _, example: example)
    )


class TfData:
    """TFDS -> shuffle -> batch -> prefetch, for data larger than memory.

    The same arguments as `Resident`, and shuffle_buffer: how many encoded examples the
    shuffle draws from.
    """

    def __init__(
        self,
        builder,
        split: str,
        batch_size: int,
        seed: int,
        shuffle_buffer: int,
        leave_out: np.ndarray | None = None,
    ):
        self._stored = _stored_examples(builder, split, leave_out)
        self.num_examples = builder.info.splits[split].num_examples
        if leave_out is not None:
            self.num_examples -= int(leave_out.sum())
        self.image_shape = builder.info.features["image"].shape
        self.classes = tuple(builder.info.features["label"].names)
        self._split, self._batch_size, self._seed = split, batch_size, seed
        self._shuffle_buffer = min(shuffle_buffer, self.num_examples)

        self._builder = builder
        self._files = sorted(builder.data_path.glob(f"*-{split}.*"))

    @property
    def fingerprint(self) -> str:
        """Of the split's files: their names, sizes, first and last 64 KiB."""
        digest = hashlib.sha256(repr((self.classes, self.num_examples)).encode())
        for path in self._files:
            with open(path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                digest.update(f"{path.name} {size}".encode())
                for start in (0, max(0, size - 2**16)):
                    file.seek(start)
                    digest.update(file.read(2**16))
        return digest.hexdigest()[:16]

    @property
    def steps_per_epoch(self) -> int:
        return _steps_per_epoch(self.num_examples, self._batch_size, self._split)

    @property
    def ids(self) -> list[str]:
        stored = self._stored.map(lambda example: example["id"])
        return [text.decode() for text in stored.as_numpy_iterator()]

    @property
    def label_counts(self) -> np.ndarray:
        """int [classes]: examples of each class, for which the whole split is read."""
        labels = self._stored.map(lambda example: example["label"]).batch(4096)
        counts = np.zeros(len(self.classes), int)
        for batch in labels.as_numpy_iterator():
            counts += np.bincount(batch, minlength=len(self.classes))
        return counts

    def epoch(
        self, epoch: int, first_step: int, steps_per_call: int
    ) -> Iterator[tuple[Batch, Batch]]:
        """Yields ({}, inputs) from `first_step` (of this epoch) on."""
        seed = int(jax.random.bits(order_key(self._seed, epoch)))
        shuffled = self._stored.shuffle(self._shuffle_buffer, seed=seed)
        shuffled = shuffled.skip(first_step * self._batch_size)
        shuffled = shuffled.take((self.steps_per_epoch - first_step) * self._batch_size)
        rows = parallel.local_rows(self._batch_size)
        batches = self._read(shuffled, self._batch_size, rows)
        chunk = []
        for number, batch in enumerate(batches, first_step + 1):
            chunk.append(parallel.split_over_devices(batch))
            if len(chunk) == steps_per_call or number == self.steps_per_epoch:
                chunk += chunk[-1:] * (steps_per_call - len(chunk))
                yield {}, jax.tree.map(lambda *x: np.stack(x, axis=1), *chunk)
                chunk = []

    @staticmethod
    def lookup(resident: Batch, inputs: Batch) -> Batch:
        del resident
        return inputs

    def in_order(self, batch_size: int, rows: slice | None = None) -> Iterator[Batch]:
        """Yields numpy batches in stored order, see `Split.in_order`."""
        num_batches = -(-self.num_examples // batch_size)
        whole = slice(0, batch_size)
        yield from self._read(self._stored, batch_size, rows or whole)
        if rows and (num_batches - 1) * batch_size + rows.start >= self.num_examples:
            yield {
                "image": np.zeros((0, *self.image_shape), np.uint8),
                "label": np.zeros(0, np.int32),
            }

    def _read(self, stored, batch_size: int, rows: slice) -> Iterator[Batch]:
        """Yields these rows of every batch; of the last maybe fewer, or no batch."""
        tf = datasets.import_tensorflow()

        def decode(example):
            image = tf.io.decode_image(example["image"], expand_animations=False)
            label = tf.cast(example["label"], tf.int32)
            target = {"target": example["target"]} if "target" in example else {}
            return {"image": image, "label": label} | target

        num_rows = rows.stop - rows.start
        if num_rows < batch_size:
            whole = stored.batch(batch_size)
            stored = whole.map(lambda x: {name: x[name][rows] for name in x}).unbatch()
        batches = stored.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        batches = batches.batch(num_rows)
        batches = batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
        return datasets.named(self._builder, self._split, batches)


def create_pipeline(
    name: str,
    builder,
    split: str,
    batch_size: int,
    seed: int,
    shuffle_buffer: int,
    leave_out: np.ndarray | None = None,
) -> Resident | TfData:
    """Opens a split through the pipeline called `name`.

    Raises:
      UserError: no such pipeline, or the data set is stored in a form it cannot read.
    """
    if name == "resident":
        return Resident(builder, split, batch_size, seed, leave_out)
    if name == "tf.data":
        return TfData(builder, split, batch_size, seed, shuffle_buffer, leave_out)
    raise UserError(
        f"config.dataset.pipeline: expected 'resident' or 'tf.data', found {name!r}"
    )
