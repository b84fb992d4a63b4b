"""augment: jit equals eager, vmap equals a loop, ranges, and independent references."""

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from deepfer_jax.data import augment
from deepfer_jax.errors import UserError
from tests.small_recipe import augment_options

STRENGTHS = {
    "flip": 0.5,
    "rotation": 15.0,
    "scale": 0.15,
    "shift": 0.1,
    "shear": 0.1,
    "crop": 4,
    "brightness": 0.3,
    "contrast": 0.4,
    "gamma": 0.3,
    "blur": 0.9,
    "erasing": 0.5,
    "cover": 0.9,
    "noise": 0.9,
    "framing": 0.9,
}
CASES = [augment_options(**{name: x}) for name, x in STRENGTHS.items()]
CASES.append(augment_options(**STRENGTHS))

jitted = jax.jit(augment.augment_batch, static_argnums=2)


def case_name(options):
    on = [name for name, strength in options.items() if strength]
    return on[0] if len(on) == 1 else "all"


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    smooth = scipy.ndimage.gaussian_filter(rng.random((3, 24, 28, 1)), (0, 2, 2, 0))
    low, high = smooth.min(), smooth.max()
    return jnp.asarray((smooth - low) / (high - low), jnp.float32)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(1), 3)


@pytest.mark.parametrize("options", CASES, ids=case_name)
def test_every_operation(images, keys, options):
    batch = jitted(keys, images, options)
    loop = jnp.stack(
        [augment.augment(k, x, options) for k, x in zip(keys, images, strict=True)]
    )
    np.testing.assert_allclose(batch, loop, atol=2e-5)
    assert batch.dtype == images.dtype
    assert batch.shape == images.shape
    assert batch.min() >= 0
    assert batch.max() <= 1
    assert np.abs(batch - images).max() > 0.01
    np.testing.assert_array_equal(batch, jitted(keys, images, options))
    others = jax.random.split(jax.random.key(4), 3)
    assert np.abs(batch - jitted(others, images, options)).max() > 0.01


def test_all_off_is_the_identity(images, keys):
    out = augment.augment_batch(keys, images, augment_options())
    assert out is images or (np.asarray(out) == np.asarray(images)).all()


def test_uint8_is_divided_by_255_and_dtypes_are_kept(images, keys):
    options = augment_options(rotation=15.0, brightness=0.3)
    whole = jnp.round(255 * images).astype(jnp.uint8)
    out = jitted(keys, whole, options)
    assert out.dtype == jnp.float32
    same = jitted(keys, whole.astype(jnp.float32) / 255, options)
    np.testing.assert_allclose(out, same, atol=1e-6)
    low = jitted(keys, images.astype(jnp.bfloat16), options)
    assert low.dtype == jnp.bfloat16
    assert low.min() >= 0
    assert low.max() <= 1


def test_colour_images_are_treated_alike_in_every_channel(images, keys):
    colour = jnp.repeat(images, 3, axis=-1)
    options = augment_options(**(STRENGTHS | {"erasing": 0.0, "noise": 0.0}))
    out, gray = jitted(keys, colour, options), jitted(keys, images, options)
    np.testing.assert_allclose(out, jnp.repeat(gray, 3, axis=-1), atol=1e-6)


def test_flip_mirrors_about_half(images):
    keys = jax.random.split(jax.random.key(3), 400)
    out = jax.vmap(lambda k: augment.random_flip(k, images[0], 0.5))(keys)
    same = (np.asarray(out) == np.asarray(images[0])).all((1, 2, 3))
    mirrored = (np.asarray(out) == np.asarray(images[0, :, ::-1])).all((1, 2, 3))
    assert (same | mirrored).all()
    assert 160 < mirrored.sum() < 240


def test_flip_twice_is_the_identity(images, keys):
    once = augment.random_flip(keys[0], images[0], 1.0)
    np.testing.assert_array_equal(once, images[0, :, ::-1])
    np.testing.assert_array_equal(
        augment.random_flip(keys[1], once, 1.0), np.asarray(images[0])
    )


@pytest.mark.parametrize("reference", ["scipy", "dm_pix"])
def test_affine_equals_a_reference(images, reference):
    image = np.asarray(images[0])
    matrix = np.array([[0.9, 0.2], [-0.15, 1.1]], np.float32)
    centre = (np.array(image.shape[:2]) - 1) / 2
    offset = np.array([1.5, -2.25])
    full = centre + offset - matrix @ centre
    if reference == "scipy":
        expected = scipy.ndimage.affine_transform(
            image[:, :, 0], matrix, full, order=1, mode="nearest"
        )
    else:
        in_three = np.eye(3, dtype=np.float32)
        in_three[:2, :2] = matrix
        expected = pix.affine_transform(
            images[0], in_three, offset=np.r_[full, 0.0], order=1, mode="nearest"
        )[:, :, 0]
    ours = augment.affine(images[0], jnp.asarray(matrix), jnp.asarray(offset))
    np.testing.assert_allclose(ours[:, :, 0], expected, atol=2e-6)


def test_random_affine_is_one_resampling_of_the_stated_transform(images):
    key = jax.random.key(6)
    draw = np.asarray(jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0))
    angle, size = np.deg2rad(20) * draw[0], 1 + 0.2 * draw[1]
    rotate = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix = np.array(rotate) @ [[1, 0], [0.3 * draw[2], 1]] / size
    image = np.asarray(images[0, :, :, 0])
    centre = (np.array(image.shape) - 1) / 2
    offset = centre + 0.1 * draw[3:] * image.shape - matrix @ centre
    expected = scipy.ndimage.affine_transform(
        image, matrix, offset, order=1, mode="nearest"
    )
    ours = augment.random_affine(key, images[0], 20.0, 0.2, 0.1, 0.3)
    np.testing.assert_allclose(ours[:, :, 0], expected, atol=2e-6)


def test_framing_moves_and_scales_as_detectors_do():
    """A ramp of rows tells where a crop's rows come from."""
    rows = jnp.broadcast_to(jnp.arange(48.0)[:, None, None], (48, 48, 1))

    def crop(key):
        return augment.random_affine(key, rows, 0.0, 0.0, 0.0, 0.0, framing=1.0)

    crops = jax.jit(jax.vmap(crop))(jax.random.split(jax.random.key(0), 4000))
    inner = np.asarray(crops)[:, 16:32, 0, 0]  # no edge is repeated there
    sides = np.log2(np.diff(inner).mean(1))
    down = (inner.mean(1) - 23.5) / 48
    np.testing.assert_allclose([sides.mean(), sides.std()], [-0.13, 0.19], atol=0.01)
    np.testing.assert_allclose([down.mean(), down.std()], [0.03, 0.055], atol=0.004)


@pytest.mark.parametrize("few", [24, 37])
def test_a_coarse_face_is_averaged_and_interpolated(few):
    image = np.random.default_rng(0).random((48, 48)).astype(np.float32)
    matrix = augment._coarsen(48, few)
    fine = np.repeat(np.repeat(image, few, 0), few, 1)  # of 48 * few pixels
    small = fine.reshape(few, 48, few, 48).mean((1, 3))
    expected = jax.image.resize(small, (48, 48), "linear")
    np.testing.assert_allclose(matrix @ image @ matrix.T, expected, atol=1e-5)


def test_framing_keeps_some_faces_and_makes_others_coarse():
    image = np.random.default_rng(0).random((48, 48, 1)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 2000)
    resolution = jax.vmap(augment.random_resolution, in_axes=(0, None, None))
    drawn = np.asarray(jax.jit(resolution, static_argnums=2)(keys, image, 0.5))
    same = (drawn == image).all((1, 2, 3)).mean()
    assert abs(same - 0.5 * (1 + 1 / 25)) < 0.04  # one of 25 sizes is its own
    assert drawn.std((1, 2, 3)).min() > 0.2 * image.std()


def test_affine_directions(images):
    # A quarter turn clockwise about the centre; a shift by whole pixels.
    rotate = jnp.array([[0.0, -1.0], [1.0, 0.0]])
    square = images[0, :24, :24]
    turned = augment.affine(square, rotate, jnp.zeros(2))
    np.testing.assert_allclose(turned, np.rot90(square, -1), atol=1e-6)
    shifted = augment.affine(images[0], jnp.eye(2), jnp.array([3.0, 0.0]))
    np.testing.assert_allclose(shifted[:-3], images[0, 3:], atol=1e-6)


def test_blur_equals_dm_pix_away_from_the_edges(images):
    ours = augment.gaussian_blur(images[0], 1.1)
    theirs = pix.gaussian_blur(images[0], 1.1, 7)
    np.testing.assert_allclose(ours[4:-4, 4:-4], theirs[4:-4, 4:-4], atol=1e-6)
    flat = augment.gaussian_blur(jnp.full((9, 9, 1), 0.5), 1.0)
    np.testing.assert_allclose(flat, 0.5, rtol=1e-6)
    edges = scipy.ndimage.gaussian_filter(
        np.asarray(images[0, :, :, 0]), 1.1, mode="nearest", radius=3
    )
    np.testing.assert_allclose(ours[:, :, 0], edges, atol=1e-6)


def test_random_blur_is_exponential_along_each_axis(images):
    key = jax.random.key(2)
    width_key = jax.random.split(key)[1]
    widths = np.asarray(jax.random.uniform(width_key, (2,), minval=0.1, maxval=2.0))
    assert abs(widths[0] - widths[1]) > 0.1
    expected = np.asarray(images[0, :, :, 0])
    for axis, width in enumerate(widths):
        kernel = np.exp(-np.abs(np.arange(-5, 6)) / width)
        expected = scipy.ndimage.correlate1d(
            expected, kernel / kernel.sum(), axis, mode="nearest"
        )
    ours = augment.random_blur(key, images[0], 1.0)
    np.testing.assert_allclose(ours[:, :, 0], expected, atol=1e-6)


def test_cover_hides_a_half_plane_under_one_value():
    image = jnp.full((48, 48, 1), 2.0)  # outside the cover's range
    keys = jax.random.split(jax.random.key(7), 300)
    cover = jax.jit(jax.vmap(augment.random_cover, (0, None, None)))
    out = np.asarray(cover(keys, image, 1.0))[..., 0]
    shares = (out != 2).mean((1, 2))
    # The centre is never covered, so less than half; a line far off covers little.
    assert (out[:, 23:25, 23:25] == 2).any((1, 2)).all()
    assert 0.45 < shares.max() < 0.53
    assert shares.min() < 0.15
    corners = (out[:, 0, 0], out[:, 0, -1], out[:, -1, 0], out[:, -1, -1])
    assert all(0.2 < (corner != 2).mean() < 0.7 for corner in corners)
    for face in out[:20]:
        hidden = face != 2
        assert len(np.unique(face[hidden])) <= 1
        # Both sides of a line are convex: no row or column changes sides twice.
        for lines in (hidden, hidden.T):
            assert (np.abs(np.diff(lines.astype(int), axis=1)).sum(1) <= 1).all()


def test_noise_is_of_three_kinds_none_of_them_gaussian():
    image = jnp.full((40, 40, 1), 0.5)
    keys = jax.random.split(jax.random.key(8), 300)
    noisy = jax.jit(jax.vmap(augment.random_noise, (0, None, None)))
    out = np.asarray(noisy(keys, image, 1.0)).reshape(300, -1)
    salted = np.array([set(np.unique(face)) <= {0.0, 0.5, 1.0} for face in out])
    assert 70 < salted.sum() < 130
    hit = (out[salted] != 0.5).mean(1)
    assert 0.1 < hit.max() < 0.17
    uniform = (out[~salted] - 0.5) / out[~salted].std(1, keepdims=True)
    # A uniform value lies within sqrt(3) deviations, a Gaussian one does not.
    assert np.abs(uniform).max() < 2.0
    assert out[~salted].std(1).max() < 0.17
    np.testing.assert_allclose(out.mean(), 0.5, atol=0.003)
    # On black only what is added shows; what multiplies leaves it black.
    black = np.asarray(noisy(keys, 0 * image, 1.0)).reshape(300, -1)
    assert 70 < (black == 0).all(1).sum() < 130


def test_erasing_fills_a_rectangle_of_the_stated_area():
    image = jnp.full((48, 48, 1), 2.0)  # outside the noise's range
    keys = jax.random.split(jax.random.key(4), 300)
    erase = jax.jit(jax.vmap(augment.random_erasing, (0, None, None)))
    out = np.asarray(erase(keys, image, 1.0))
    areas = (out != 2).mean((1, 2, 3))
    assert 0.015 < areas.min() < 0.05
    assert 0.15 < areas.max() < 0.22
    for changed in (out != 2)[:20, :, :, 0]:
        rows, columns = changed.any(1), changed.any(0)
        assert changed.sum() == rows.sum() * columns.sum()
    applied = np.asarray(erase(keys, image, 0.25))
    assert 45 < (applied != 2).any((1, 2, 3)).sum() < 105


def test_crop_is_a_window_of_the_padded_image():
    image = jnp.arange(36.0).reshape(6, 6, 1) / 36
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), "edge")
    windows = [padded[y : y + 6, x : x + 6] for y in range(5) for x in range(5)]
    seen = set()
    keys = jax.random.split(jax.random.key(5), 60)
    crops = jax.vmap(lambda key: augment.random_crop(key, image, 2))(keys)
    for out in np.asarray(crops):
        seen.add(next(i for i, w in enumerate(windows) if (w == out).all()))
    assert len(seen) > 15


@pytest.fixture(scope="module")
def batch():
    images = jnp.arange(8.0)[:, None, None, None] * jnp.ones((8, 20, 20, 1))
    return images, jnp.eye(8)[:, :7].at[7, 0].set(1.0)


def test_mixup_blends_images_and_targets_by_one_weight(batch):
    images, targets = batch
    key = jax.random.key(0)
    mixed, soft = jax.jit(augment.mixup)(key, images, targets, 1.0)
    weight = float(soft[1, 1])
    assert 0.01 < weight < 0.99
    np.testing.assert_allclose(mixed[1], weight * 1 + (1 - weight) * 0, rtol=1e-5)
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(soft[1, 0], 1 - weight, rtol=1e-5)
    low = jax.eval_shape(augment.mixup, key, images.astype(jnp.bfloat16), targets, 1.0)
    assert low[0].dtype == jnp.bfloat16


def test_mixup_weight_follows_its_beta_distribution(batch):
    def weight(key):
        return augment.mixup(key, batch[0][:, :1, :1], batch[1], 0.4)[1][1, 1]

    weights = jax.jit(jax.vmap(weight))(jax.random.split(jax.random.key(1), 4000))
    assert float(weights.mean()) == pytest.approx(0.5, abs=0.03)
    # Beta(a, a) has variance 1 / (4 (2 a + 1)).
    assert float(weights.var()) == pytest.approx(1 / (4 * 1.8), abs=0.01)


def test_mix_batch_is_each_alone_or_nothing(batch, monkeypatch):
    monkeypatch.setattr(augment, "mixup", lambda *args: ("mixup", args[-1]))
    monkeypatch.setattr(augment, "cutmix", lambda *args: ("cutmix", args[-1]))
    key = jax.random.key(3)
    for name in ("mixup", "cutmix"):
        options = augment_options(**{f"{name}_alpha": 0.7})
        assert augment.mix_batch(key, *batch, options) == (name, 0.7)
    out = augment.mix_batch(key, *batch, augment_options())
    assert out[0] is batch[0]
    assert out[1] is batch[1]


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_weight_is_the_pasted_area(batch, seed):
    images, targets = batch
    mixed, soft = jax.jit(augment.cutmix)(jax.random.key(seed), images, targets, 1.0)
    kept = (np.asarray(mixed) == np.asarray(images)).mean((1, 2, 3))
    np.testing.assert_allclose(soft[1, 1], kept[1], atol=1e-6)
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-6)


def test_both_on_chooses_one(batch):
    images, targets = batch
    options = augment_options(mixup_alpha=1.0, cutmix_alpha=1.0)
    mix = jax.jit(augment.mix_batch, static_argnums=3)
    kinds = set()
    for seed in range(12):
        mixed, _ = mix(jax.random.key(seed), images, targets, options)
        whole = np.asarray(mixed) == np.round(np.asarray(mixed))
        kinds.add("cutmix" if whole.all() else "mixup")
    assert kinds == {"mixup", "cutmix"}


@pytest.mark.parametrize("field", ["flip", "rotation", "crop", "mixup_alpha"])
def test_values_outside_the_range_are_refused(field):
    def check(**fields):
        augment.check_options(augment_options(**fields))

    check(flip=1, crop=2)
    with pytest.raises(UserError, match=rf"augment.{field}: expected .* found -1"):
        check(**{field: -1})
    with pytest.raises(UserError, match=r"augment.flip: .* at most 1.0, found 1.5"):
        check(flip=1.5)
    with pytest.raises(UserError, match=r"augment.crop: expected an integer.* 1.5"):
        check(crop=1.5)
    for value in (float("nan"), float("inf"), "0.2", None):
        with pytest.raises(UserError, match=r"augment.mixup_alpha: expected a number"):
            check(mixup_alpha=value)
