"""What `measuring.speed` measures of this package: training and inference.

task = Training(recipe, "resident", builder)        # or "tf.data", "fixed"
task.warm_up()
num_faces = task()

inference = open_inference("models/tiny")           # what scripts/export.py wrote
probabilities = inference.predict(faces)
"""

import contextlib
import copy
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from measuring.random_faces import RandomFaces
from ml_collections import ConfigDict

from deepfer_jax import parallel
from deepfer_jax.data import datasets
from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.data.pipeline import create_pipeline
from deepfer_jax.evaluation.predict import make_predict
from deepfer_jax.inference import Predictor
from deepfer_jax.models import preprocess
from deepfer_jax.runs.trained import build_model, load_trained
from deepfer_jax.training.groups import Groups
from deepfer_jax.training.phases import make_phase
from deepfer_jax.training.step import steps_per_call

PIPELINES = ("resident", "tf.data", "fixed")


def choose_model(config: ConfigDict, model: str, precision: str) -> ConfigDict:
    """A copy of the recipe with this model; options stay with the model they are of."""
    recipe = copy.deepcopy(config)
    if model != recipe.model.name:
        recipe.model.options = ConfigDict()
        recipe.model.dropout_rate = 0.0
    recipe.model.name, recipe.model.dtype = model, precision
    return recipe


def without_chance(recipe: ConfigDict) -> ConfigDict:
    """A copy that neither augments nor drops out, weighs classes or averages."""
    recipe = copy.deepcopy(recipe)
    for name, strength in recipe.augment.items():
        recipe.augment[name] = type(strength)(0)
    recipe.model.dropout_rate = 0.0
    recipe.loss.class_weights = "none"
    recipe.train.ema_decay = 0.0
    return recipe


@contextlib.contextmanager
def open_faces(
    config: ConfigDict, image_size: int
) -> Iterator[tfds.core.DatasetBuilder]:
    """Opens the recipe's data set, whose faces are 48x48, or noise of another size."""
    if image_size == 48:
        yield datasets.load_builder(config.dataset.name, config.dataset.data_dir)
        return
    num_faces = max(1024, config.train.batch_size)
    file_format = datasets.default_file_format()
    with tempfile.TemporaryDirectory() as folder:
        builder = RandomFaces(
            image_size, num_faces, data_dir=folder, file_format=file_format
        )
        datasets.generate(builder, tfds.download.DownloadConfig())
        yield datasets.open_prepared(builder.data_path)


class FixedBatch:
    """A pipeline of one batch, on the device from the start: what no input costs.

    Args:
      batch: numpy arrays [batch size, ...]; each device holds the first of them.
      pipeline: that it stands for.
    """

    def __init__(self, batch: dict[str, np.ndarray], pipeline: Any):
        share = len(batch["label"]) // parallel.num_devices()
        self._batch = parallel.replicate({k: x[:share] for k, x in batch.items()})
        self.steps_per_epoch = pipeline.steps_per_epoch
        self.image_shape, self.classes = pipeline.image_shape, pipeline.classes
        self.label_counts = pipeline.label_counts

    def epoch(self, epoch: int, first_step: int, steps_per_call: int):
        """Yields (batch, zeros), where the pipelines of data.pipeline give inputs."""
        del epoch
        inputs = np.zeros((parallel.num_devices(), steps_per_call), np.int32)
        inputs = parallel.shard(inputs)
        for _ in range(first_step, self.steps_per_epoch, steps_per_call):
            yield self._batch, inputs

    @staticmethod
    def lookup(resident: dict[str, jax.Array], inputs: jax.Array):
        del inputs
        return resident


class Training:
    """Steps of the training program through one pipeline; a task of `timing`.

    Called, it trains for `num_steps`, or a few more where the program runs several in
    one call, epoch after epoch as `train` does.

    Args:
      recipe: a whole configuration.
      pipeline: one of PIPELINES.
      builder: a prepared data set that has the recipe's train_split.

    Attributes:
      num_steps: of a call.
      recipe: as given.
      network: a module of deepfer_jax.models.
      variables: its first {params, batch_stats}, NumPy arrays.
      batch: of "fixed", numpy {image uint8 [b, H, W, 1], label int32 [b]}.
      facts: what a report says of this task.
      state: after the steps so far.
      inputs: yields (resident, inputs) of the next calls.
    """

    def __init__(self, recipe: ConfigDict, pipeline: str, builder):
        train, dataset = recipe.train, recipe.dataset
        data = create_pipeline(
            "resident" if pipeline == "fixed" else pipeline,
            builder,
            dataset.train_split,
            train.batch_size,
            recipe.seed,
            dataset.shuffle_buffer,
        )
        self._steps_per_call = steps_per_call(train, data.steps_per_epoch)
        self._steps_per_epoch, self._step = data.steps_per_epoch, 0
        self.num_steps = self._steps_per_call
        self.recipe, self._shape = recipe, data.image_shape
        self.facts = {
            "framework": "jax",
            "model": recipe.model.name,
            "pipeline": pipeline,
            "precision": recipe.model.dtype,
            "batch_size": train.batch_size,
            "image_size": self._shape[0],
            "augmented": any(recipe.augment.values()),
            "steps_per_call": self._steps_per_call,
        }
        if pipeline == "fixed":
            self.batch = next(data.in_order(train.batch_size))
            data = FixedBatch(self.batch, data)
        self._create(data)
        self.inputs = itertools.chain.from_iterable(
            data.epoch(epoch, 0, self._steps_per_call) for epoch in itertools.count()
        )

    def _create(self, data: Any) -> None:
        """Makes program and state as `train` does, for what its first epoch trains."""
        phase = Groups(self.recipe.optimizer.groups).phase(0)
        init, self._run_steps = make_phase(self.recipe, data, phase)
        self.network = build_model(self.recipe.model, data.classes)
        state = init()
        # Copies, since the steps are given the state to overwrite.
        self.variables = jax.tree.map(
            np.array, {"params": state.params, "batch_stats": state.batch_stats}
        )
        self.state = parallel.replicate(state)

    def __call__(self) -> int:
        """Returns how many faces it trained on."""
        done = 0
        while done < self.num_steps:
            done += self.call(*next(self.inputs))
        jax.block_until_ready(self.state)
        return done * self.recipe.train.batch_size

    def call(self, resident: Any, inputs: Any) -> int:
        """Runs the steps of one call; returns how many counted."""
        self.state, _ = self._run_steps(self.state, resident, inputs)
        # The last call of an epoch may run steps that count for nothing.
        left = self._steps_per_epoch - self._step % self._steps_per_epoch
        done = min(self._steps_per_call, left)
        self._step += done
        return done

    def warm_up(self) -> None:
        """Compiles, and adds to the facts whether there is input from the host."""
        self.call(*next(self.inputs))
        self.facts["host_input"] = self.takes_host_input()
        self()

    def takes_host_input(self) -> bool:
        """Whether a call, compiled before, moves anything from host to device."""
        call = next(self.inputs)
        try:
            with jax.transfer_guard_host_to_device("disallow"):
                self.call(*call)
        except jax.errors.JaxRuntimeError as error:
            if "Disallowed host-to-device transfer" not in str(error):
                raise
            return True
        return False


class Inference(NamedTuple):
    """Whole calls, from faces to probabilities, both NumPy arrays.

    Attributes:
      facts: what a report says of it.
      image_shape: (height, width, channels) of a face.
      predict: uint8 [N, *image_shape] -> float32 [N, classes].
      load: returns (network, variables, config.model, temperature).
    """

    facts: dict[str, Any]
    image_shape: tuple[int, ...]
    predict: Callable[[np.ndarray], np.ndarray]
    load: Callable[[], tuple[nn.Module, Any, ConfigDict, float]]


def create_inference(model: ConfigDict, image_size: int) -> Inference:
    """A network with random weights, for gray faces of this size; `config.model`."""
    network = build_model(model, EMOTIONS)
    shape = (image_size, image_size, 1)
    images = jnp.zeros((1, *preprocess.input_shape(model, shape)))
    variables = jax.jit(network.init)(jax.random.key(0), images)
    predict = make_predict(model, EMOTIONS)
    call = jax.jit(lambda variables, x: predict(variables, preprocess.to_unit(x)))
    return Inference(
        {
            "model": model.name,
            "exported": False,
            "precision": model.dtype,
            "image_size": image_size,
        },
        shape,
        lambda faces: np.asarray(call(variables, faces)),
        lambda: (network, variables, model, 1.0),
    )


def open_inference(folder: str | os.PathLike) -> Inference:
    """An exported model, through `inference.Predictor`.

    Raises:
      UserError: the folder cannot be read.
    """
    predictor = Predictor(folder)
    model = load_trained(folder).model_config
    shape = tuple(predictor.metadata["input"]["shape"])

    def load():
        trained = load_trained(folder)
        module = build_model(model, trained.classes)
        return module, trained.variables, model, trained.temperature

    facts = {
        "model": model.name,
        "exported": True,
        "precision": model.dtype,
        "image_size": shape[0],
    }
    return Inference(facts, shape, predictor.predict, load)
