"""Where pixels are and go is computed exactly, whatever an accelerator's products are.

A GPU's and a TPU's matrix products have few digits unless they are asked for more: a
network bears that, but coordinates and weights of resizing do not.
"""

import jax
import jax.numpy as jnp
import pytest

from configs import default
from deepfer_jax.data import augment
from deepfer_jax.evaluation import corruptions
from deepfer_jax.evaluation.predict import VIEWS
from deepfer_jax.faces.crop import Framing
from deepfer_jax.faces.detector import load_detector, make_detect
from deepfer_jax.faces.program import make_analyze
from deepfer_jax.models.preprocess import make_preprocess
from tests.small_recipe import augment_options

EXACT = (jax.lax.Precision.HIGHEST,) * 2
IMAGES = jax.ShapeDtypeStruct((2, 48, 48, 3), jnp.float32)


def products(function, *args):
    """Precisions of all matrix products and convolutions of a function."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("dot_general", "conv_general_dilated"):
                yield equation.params["precision"]
            for leaf in jax.tree.leaves(
                equation.params, is_leaf=lambda x: hasattr(x, "eqns")
            ):
                if hasattr(leaf, "eqns"):
                    yield from walk(leaf)

    return list(walk(jax.make_jaxpr(function)(*args).jaxpr))


class NoNetwork:
    """Stands for a detector's network, of which only the shapes are wanted."""

    def __init__(self, detector):
        self._detector = detector

    def apply(self, variables, images):
        network = self._detector.model.network
        shapes = jax.eval_shape(network.apply, variables, images)
        return jax.tree.map(lambda x: jnp.zeros(x.shape) + images.mean(), shapes)


@pytest.mark.parametrize("name", ["short", "full"])
def test_faces_are_found_and_cut_out_exactly(name):
    detector = load_detector(name)
    model = detector.model._replace(network=NoNetwork(detector))
    analyze = make_analyze(
        make_detect(detector._replace(model=model)),
        lambda crops: (crops.mean((1, 2)), crops.mean((1, 2))),
        Framing(),
        (48, 48, 3),
    )
    frames = jax.ShapeDtypeStruct((2, 240, 320, 3), jnp.uint8)
    found = products(analyze, frames, jax.ShapeDtypeStruct((2,), jnp.int32))
    # Resizing along rows, and the mean of boxes.
    assert found == [EXACT] * 2


def test_faces_are_augmented_exactly():
    options = augment_options(
        **{name: 1 if name == "crop" else 0.5 for name in default.get_config().augment}
    )
    keys = jax.random.split(jax.random.key(0), 2)
    found = products(lambda x: augment.augment_batch(keys, x, options), IMAGES)
    assert found == [EXACT] * 2  # of `framing`, which makes faces coarse


def test_faces_are_resized_exactly():
    config = default.get_config().model
    config.input_size = 96
    resize = make_preprocess(config)
    for function in (resize, VIEWS["ten_crop"]):
        assert set(products(function, IMAGES)) == {EXACT}
    keys = jax.random.split(jax.random.key(0), 2)
    for name in corruptions.CORRUPTIONS:
        corrupt = corruptions.make_corrupt(name, severity=3)
        assert set(products(corrupt, keys, IMAGES)) <= {EXACT}, name
