"""evaluation.quality: spoiled faces are told from others, and clean ones stay sure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepfer_jax.data.synthetic.builder import draw_face
from deepfer_jax.evaluation import quality
from deepfer_jax.evaluation.corruptions import CORRUPTIONS, make_corrupt
from deepfer_jax.inference import Predictor, name_cause, name_class
from deepfer_jax.models.quality import CAUSES, QualityHead, darkness, spoils


def test_a_cause_stands_for_all_that_spoils():
    probabilities = jnp.array([[0.7, 0.1, 0.15, 0.05], [0.2, 0.5, 0.2, 0.1]])
    images = jnp.linspace(0, 1, 2 * 8 * 8).reshape(2, 8, 8, 1)
    found = np.asarray(spoils(probabilities, images))
    assert found.shape == (2, len(CAUSES))
    np.testing.assert_allclose(found[0, :3], [0.1, 0.3, 0.05], atol=1e-6)
    np.testing.assert_allclose(found[1, :3], [0.8, 0.2, 0.1], atol=1e-6)


def test_darkness_is_half_where_few_levels_are_left():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1, 48, 48, 1))
    noise /= noise.std()
    for levels, expected in ((1.3, 0.5), (50.0, 0.0), (0.0, 1.0)):
        found = darkness(jnp.asarray(0.2 + levels / 255 * noise))
        np.testing.assert_allclose(found, [expected], atol=1e-3)


def test_the_head_learns_which_faces_are_spoiled():
    """Three directions of features, each with its own cause."""
    rng = np.random.default_rng(0)
    causes = rng.integers(0, 4, 4000)
    features = rng.normal(size=(4000, 5)).astype(np.float32) + 3
    features[np.arange(4000), causes] += 6
    variables = quality._fit_head(features, causes)
    found = QualityHead().apply({"params": variables}, features)
    assert (np.asarray(found).argmax(1) == causes).mean() > 0.98


def test_the_shift_costs_as_many_faces_as_it_may():
    features = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    variables = QualityHead().init(jax.random.key(0), features)["params"]
    sure = np.arange(1000) % 4 > 0
    moved = quality._shift(variables, features, sure)
    none = np.asarray(QualityHead().apply({"params": moved}, features))[:, 0]
    assert abs((sure & (none < 0.5)).sum() - 1000 * quality.COST) <= 1


def test_an_ellipse_hides_pixels_under_one_value():
    image = jax.random.uniform(jax.random.key(0), (48, 48, 1))
    shares = []
    for key in jax.random.split(jax.random.key(1), 30):
        covered = np.asarray(quality.random_ellipse(key, image))
        changed = covered != np.asarray(image)
        shares.append(changed.mean())
        assert len(np.unique(covered[changed])) == 1
    # pi r1 r2 of 0.1 to 0.4 each, part of it outside.
    assert min(shares) > 0.01
    assert max(shares) < 0.51


def test_quality_and_reason_are_those_of_the_strongest_cause():
    assert name_cause(np.array([0.1, 0.7, 0.2]), "abc") == (pytest.approx(0.3), "b")
    assert name_cause(np.array([0.1, 0.4, 0.2]), "abc") == (pytest.approx(0.6), None)
    sure = np.array([0.1, 0.9])
    assert name_class(sure, "ab", 0.5, 0.6).unsure is False
    assert name_class(sure, "ab", 0.5, 0.4, "dark")[2:] == (True, sure, 0.4, "dark")
    assert name_class(sure, "ab", None, 0.4, "dark").unsure is None


def test_none_of_what_spoils_faces_is_what_robustness_is_measured_by():
    measured = {function for function, _ in CORRUPTIONS.values()}
    names = {function.__name__ for function in measured}
    assert not names & {"random_cover", "random_ellipse", "random_blur", "random_noise"}


@pytest.mark.parametrize("name", ["covered_mouth", "blur", "noise", "dark"])
def test_what_ships_tells_spoiled_faces(name):
    """Drawn faces, spoiled hard: most of them lose quality."""
    rng = np.random.default_rng(0)
    faces = np.stack([draw_face(rng, "happy") for _ in range(64)])[..., None]
    predictor = Predictor("tiny")
    spoiled = faces // 60 * 3 if name == "dark" else None
    if spoiled is None:
        keys = jax.random.split(jax.random.key(0), len(faces))
        spoiled = np.asarray(make_corrupt(name, 5)(keys, jnp.asarray(faces)))
    clean, hard = (
        np.array([p.quality for p in predictor.classify(x)]) for x in (faces, spoiled)
    )
    assert np.median(hard) < np.median(clean) - 0.1
