"""explain: Grad-CAM against its definition, and maps that lie where faces speak."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from deepfer_jax.data.synthetic.builder import draw_face
from deepfer_jax.data.synthetic.canvas import project
from deepfer_jax.data.synthetic.sampling import (
    sample_action_units,
    sample_person,
    sample_pose,
)
from deepfer_jax.evaluation.explain import delete_highest, make_grad_cam
from deepfer_jax.evaluation.predict import make_predict
from deepfer_jax.models.preprocess import make_preprocess, to_unit
from deepfer_jax.occlusion import occlusion_map
from deepfer_jax.runs.trained import build_model, load_trained

NUM = 24


@pytest.fixture(scope="module")
def trained():
    return load_trained("tiny")


@pytest.fixture(scope="module")
def happy():
    """Drawn faces that smile, uint8 [NUM, 48, 48, 1]."""
    faces = [draw_face(np.random.default_rng(seed), "happy") for seed in range(NUM)]
    return np.stack(faces)[..., None]


@pytest.fixture(scope="module")
def predict(trained):
    network = make_predict(trained.model_config, trained.classes, trained.temperature)
    compiled = jax.jit(lambda faces: network(trained.variables, to_unit(faces)))
    return lambda faces: np.asarray(compiled(faces))


def mouth(seed):
    """Where a drawn face's mouth is, bool [48, 48]: in the same order of draws."""
    rng = np.random.default_rng(seed)
    sample_action_units(rng, "happy")
    person, pose = sample_person(rng), sample_pose(rng)
    [[x, y]] = project(pose, np.zeros(1), np.array([person.mouth_height]))
    rows, columns = np.mgrid[:48, :48] + 0.5
    near = np.abs(rows - y) < 0.35 * pose.scale
    return near & (np.abs(columns - x) < 0.6 * pose.scale)


def density(heat, places):
    """How much denser the heat is in the places than in the whole face."""
    heat = np.maximum(heat, 0)
    return heat[places].mean() / heat.mean()


def test_of_an_averaging_network_it_is_the_class_activation_map(trained, happy):
    """Zhou et al. 2016: the head's weights times the last stage's output."""
    model = build_model(trained.model_config, trained.classes)
    inputs = make_preprocess(trained.model_config)(to_unit(happy))
    _, state = model.apply(trained.variables, inputs, capture_intermediates=True)
    [outputs] = state["intermediates"]["stage4"]["__call__"]
    kernel = trained.variables["params"]["head"]["kernel"]
    maps = np.maximum(outputs.astype(jnp.float32) @ kernel[:, 3], 0)
    maps = jax.image.resize(maps, (NUM, 48, 48), "linear")
    expected = maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-9)
    explain = make_grad_cam(trained.model_config, trained.classes)
    found = explain(trained.variables, happy, np.full(NUM, 3))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_of_a_network_with_wide_layers_it_follows_the_gradient():
    """VGG: weights by differences, one channel of the last stage after the other."""
    config = default.get_config().model
    config.name = "vgg"
    classes = ("a", "b")
    model = build_model(config, classes)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), np.uint8)
    inputs = make_preprocess(config)(to_unit(images))
    variables = model.init(jax.random.key(0), inputs)
    found = make_grad_cam(config, classes)(variables, images, np.array([1, 0]))
    # The last stage is one pixel high and wide: its map is even, or nothing.
    assert found.shape == (2, 16, 16)
    assert {len(np.unique(heat)) for heat in found} == {1}


def test_batches_make_no_difference(trained, happy):
    explain = make_grad_cam(trained.model_config, trained.classes)
    labels = np.arange(NUM) % 7
    many = explain(trained.variables, np.repeat(happy, 6, 0), np.repeat(labels, 6))
    assert many.shape == (6 * NUM, 48, 48)
    some = explain(trained.variables, happy, labels)
    np.testing.assert_allclose(many[::6], some, atol=1e-4)
    assert some.min() >= 0
    assert some.max() <= 1


def test_happy_is_seen_at_the_mouth(trained, happy, predict):
    """Chance is 1; Grad-CAM has three by three values for a whole face."""
    assert (predict(happy).argmax(1) == 3).mean() > 0.9
    occlusion = [occlusion_map(predict, face, 3) for face in happy]
    assert np.mean([density(x, mouth(i)) for i, x in enumerate(occlusion)]) > 2.5
    peaks = [mouth(i).ravel()[x.argmax()] for i, x in enumerate(occlusion)]
    assert np.mean(peaks) > 0.7
    explain = make_grad_cam(trained.model_config, trained.classes)
    maps = explain(trained.variables, happy, np.full(NUM, 3))
    assert np.mean([density(x, mouth(i)) for i, x in enumerate(maps)]) > 1


def test_the_highest_tenth_is_worth_more_than_a_random_one(trained, happy, predict):
    explain = make_grad_cam(trained.model_config, trained.classes)
    label = predict(happy).argmax(1)
    maps = {
        "grad_cam": explain(trained.variables, happy, label),
        "occlusion": np.stack([occlusion_map(predict, face, 3) for face in happy]),
        "random": np.random.default_rng(0).random((NUM, 48, 48)),
    }
    index = np.arange(NUM)
    left = {
        name: predict(delete_highest(happy, heat))[index, label].mean()
        for name, heat in maps.items()
    }
    assert left["occlusion"] < left["random"]
    assert left["grad_cam"] < left["random"]


def test_deletion_by_hand():
    image = np.array([[0, 10], [20, 30]], np.uint8).reshape(1, 2, 2, 1)
    heat = np.array([[[0.0, 3.0], [1.0, 2.0]]])
    deleted = delete_highest(image, heat, share=0.5)[0, :, :, 0]
    np.testing.assert_array_equal(deleted, [[0, 15], [20, 15]])
