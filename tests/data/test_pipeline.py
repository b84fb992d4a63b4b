"""pipeline: both cover the data, start anywhere, and differ only in their order."""

import collections

import jax
import numpy as np
import pytest

from deepfer_jax import parallel
from deepfer_jax.data import datasets
from deepfer_jax.data.pipeline import create_pipeline
from deepfer_jax.errors import UserError

BOTH = pytest.mark.parametrize("name", ["resident", "tf.data"])


@pytest.fixture(scope="module")
def builder(small_data_dir):
    return datasets.load_builder("synthetic_faces/small", small_data_dir)


@pytest.fixture(scope="module")
def stored(builder):
    return datasets.load_split(builder, "train")


def make(name, builder, split="train", batch_size=32, seed=0):
    return create_pipeline(name, builder, split, batch_size, seed, shuffle_buffer=1000)


def batches_of(pipeline, epoch=0, first_step=0, steps_per_call=1):
    """Batches {image, label} in order, by the lookup that the compiled step does."""
    for resident, inputs in pipeline.epoch(epoch, first_step, steps_per_call):
        num_steps = (
            len(inputs["label"][0]) if isinstance(inputs, dict) else len(inputs[0])
        )
        for step in range(num_steps):
            if isinstance(inputs, dict):
                one = {key: x[0, step] for key, x in inputs.items()}
            else:
                one = inputs[0, step]
            batch = pipeline.lookup(resident, one)
            yield np.asarray(batch["image"]), np.asarray(batch["label"])


def assert_same(left, right):
    left, right = list(left), list(right)
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


@BOTH
def test_an_epoch_shows_every_face_at_most_once_with_its_label(builder, stored, name):
    pipeline = make(name, builder)
    assert pipeline.steps_per_epoch == 8
    assert pipeline.image_shape == (48, 48, 1)
    label_of = {
        image.tobytes(): label
        for image, label in zip(stored["image"], stored["label"], strict=True)
    }
    seen = collections.Counter()
    for images, labels in batches_of(pipeline):
        assert images.shape == (32, 48, 48, 1)
        assert images.dtype == np.uint8
        for image, label in zip(images, labels, strict=True):
            assert label_of[image.tobytes()] == label
            seen[image.tobytes()] += 1
    assert len(seen) == 256
    assert set(seen.values()) == {1}


@BOTH
def test_the_order_is_a_function_of_seed_and_epoch(builder, name):
    first = list(batches_of(make(name, builder)))
    assert_same(first, batches_of(make(name, builder)))
    for other in (
        batches_of(make(name, builder), epoch=1),
        batches_of(make(name, builder, seed=1)),
    ):
        assert not np.array_equal(first[0][0], next(other)[0])


@BOTH
@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_starting_within_an_epoch_continues_it(builder, name, steps_per_call):
    pipeline = make(name, builder)
    whole = list(batches_of(pipeline, epoch=2))
    rest = batches_of(pipeline, 2, first_step=5, steps_per_call=steps_per_call)
    assert_same(rest, whole[5:])


@BOTH
def test_evaluation_order_is_the_stored_one_to_the_last_face(builder, name):
    expected = datasets.load_split(builder, "validation")
    pipeline = make(name, builder, "validation")
    batches = list(pipeline.in_order(32))
    assert [len(b["label"]) for b in batches] == [32, 32, 32, 32, 12]
    for key in ("image", "label"):
        whole = np.concatenate([b[key] for b in batches])
        np.testing.assert_array_equal(whole, expected[key])
    assert pipeline.ids == expected["id"]
    np.testing.assert_array_equal(pipeline.label_counts, [20] * 7)


@pytest.fixture
def be_process(monkeypatch):
    """Lets this process, of one device, be one of several, without the others."""

    def be(number, num):
        monkeypatch.setattr(jax, "process_index", lambda: number)
        monkeypatch.setattr(jax, "process_count", lambda: num)
        monkeypatch.setattr(jax, "device_count", lambda: num)

    return be


@BOTH
@pytest.mark.parametrize("num", [2, 3, 5])
def test_processes_share_each_batch(builder, be_process, name, num):
    """280 faces: nine batches of 30, of whose rest nobody sees any."""
    whole = list(batches_of(make(name, builder, batch_size=30), 1, first_step=2))
    assert len(whole) == 7
    shares = []
    for number in range(num):
        be_process(number, num)
        pipeline = make(name, builder, batch_size=30)
        shares.append(list(batches_of(pipeline, 1, first_step=2)))
    joined = (
        tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))
        for batches in zip(*shares, strict=True)
    )
    assert_same(joined, whole)


@BOTH
@pytest.mark.parametrize(
    ("batch_size", "num", "last"),
    [(48, 4, [12, 12, 12, 8]), (60, 3, [20, 0, 0]), (70, 2, [35, 35])],
)
def test_processes_share_an_evaluation(
    builder, be_process, name, batch_size, num, last
):
    """As many batches for each, whatever there is of the last; every face once."""
    expected = datasets.load_split(builder, "validation")
    shares = []
    for number in range(num):
        be_process(number, num)
        rows = parallel.local_rows(batch_size)
        pipeline = make(name, builder, "validation")
        shares.append(list(pipeline.in_order(batch_size, rows)))
    assert [len(batches[-1]["label"]) for batches in shares] == last
    for key in ("image", "label"):
        parts = [b[key] for batches in zip(*shares, strict=True) for b in batches]
        np.testing.assert_array_equal(np.concatenate(parts), expected[key])
        assert len({part.dtype for part in parts}) == 1


@BOTH
def test_classes_come_equally_often_early_and_late(builder, name):
    labels = [label for _, label in batches_of(make(name, builder))]
    early = np.bincount(np.concatenate(labels[:4]), minlength=7)
    assert (early > 6).all()


def test_in_order_also_works_after_training(builder):
    pipeline = make("resident", builder)
    list(batches_of(pipeline))
    assert len(list(pipeline.in_order(100))) == 3


@BOTH
def test_mistakes_are_named(builder, name):
    with pytest.raises(UserError, match=r"expected a split of .*'validation'.*'tset'"):
        make(name, builder, "tset")
    with pytest.raises(UserError, match=r"batch_size=500 is larger .* 280 faces"):
        _ = make(name, builder, batch_size=500).steps_per_epoch


def test_an_unknown_pipeline_is_named(builder):
    with pytest.raises(UserError, match=r"'resident' or 'tf.data', found 'torch'"):
        make("torch", builder)


def test_tf_data_refuses_array_record(tmp_path):
    from deepfer_jax.data.synthetic.builder import SyntheticFaces

    SyntheticFaces(
        config="small", data_dir=tmp_path, file_format="array_record"
    ).download_and_prepare()
    builder = datasets.load_builder("synthetic_faces/small", tmp_path)
    assert make("resident", builder).num_examples == 280
    with pytest.raises(UserError, match=r"reads tfrecord.*holds array_record"):
        make("tf.data", builder)
