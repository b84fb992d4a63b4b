"""What training must never do to a user's files, nor take from them unseen."""

import multiprocessing
import shutil
import threading

import numpy as np
import pytest

from deepfer_jax import outputs
from deepfer_jax.data import datasets
from deepfer_jax.errors import UserError
from deepfer_jax.runs.workdir import locked
from deepfer_jax.training.train import train_and_evaluate


def hold(folder, has_it, end):
    with locked(folder):
        has_it.set()
        end.wait(60)


def test_one_process_at_a_time_trains_in_a_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    has_it, end = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, has_it, end))
    process.start()
    try:
        assert has_it.wait(60)
        with (
            pytest.raises(UserError, match=rf"trained by process {process.pid} on "),
            locked(tmp_path),
        ):
            pass
    finally:
        process.kill()
        process.join()
    with locked(tmp_path):  # what is left of one that was killed is no obstacle
        pass


@pytest.fixture(params=["resident", "tf.data"])
def config(request, small_config, small_data_dir, tmp_path):
    small_config.dataset.pipeline = request.param
    small_config.dataset.data_dir = str(tmp_path / "data")
    shutil.copytree(small_data_dir, tmp_path / "data")
    small_config.train.num_epochs = 1
    return small_config


def stored(config, split="train"):
    folder = datasets.load_builder(
        config.dataset.name, config.dataset.data_dir
    ).data_path
    (path,) = folder.glob(f"*-{split}.tfrecord*")
    return path


def test_other_data_under_the_same_name_is_refused(config, tmp_path):
    train_and_evaluate(config, tmp_path / "run")
    config.train.num_epochs = 2
    train_and_evaluate(config, tmp_path / "run")
    builder = datasets.create_builder(
        "synthetic_faces/small", tmp_path / "other", "tfrecord"
    )
    monkey = np.random.default_rng(1)
    examples = [
        example | {"label": int(monkey.integers(7))}
        for example in read_examples(config)
    ]
    replace_split(builder, examples, stored(config))
    config.train.num_epochs = 3
    with pytest.raises(UserError, match=r"split train, is not what this run was tr"):
        train_and_evaluate(config, tmp_path / "run")


def read_examples(config):
    builder = datasets.load_builder(config.dataset.name, config.dataset.data_dir)
    arrays = datasets.load_split(builder, "train")
    for image, label, name in zip(
        arrays["image"], arrays["label"], arrays["id"], strict=True
    ):
        yield {"image": image, "label": int(label), "id": name}


def replace_split(builder, examples, path):
    """Writes examples of the same features over a stored file."""
    tf = datasets.import_tensorflow()
    features = builder.info.features
    from tensorflow_datasets.core import example_serializer

    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            encoded = features.encode_example(example)
            writer.write(serializer.serialize_example(encoded))


def test_a_changed_byte_of_prepared_data_is_named(config, tmp_path):
    path = stored(config)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"(?s)split train: a stored .*prepare_data"):
        train_and_evaluate(config, tmp_path / "run")


def test_training_works_off_the_main_thread(small_config, tmp_path):
    small_config.train.num_epochs = 1
    found = {}

    def run():
        found["best"] = train_and_evaluate(small_config, tmp_path)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found["best"]["epoch"] == 1


def test_outputs_are_neither_inputs_nor_each_other(tmp_path):
    (tmp_path / "in.mp4").touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "in.mp4")
    for name in ("in.mp4", "link.mp4", "x/../in.mp4"):
        with pytest.raises(UserError, match="is read and would be overwritten"):
            outputs.check([tmp_path / name], [tmp_path / "in.mp4"])
    with pytest.raises(UserError, match="would be written twice"):
        outputs.check([tmp_path / "a.csv", tmp_path / "y/../a.csv"])
    outputs.check([tmp_path / "a.csv", tmp_path / "b.csv"], [tmp_path / "in.mp4"])


def write(path, text, then=None):
    with outputs.replacing(path) as temporary:
        temporary.write_text(text)
        if then is not None:
            raise then


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "page.html"
    write(path, "one")
    assert path.read_text() == "one"
    with pytest.raises(RuntimeError):
        write(path, "half", RuntimeError())
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]
    for where in (path / "below", tmp_path / ("x" * 300), "/dev/full"):
        with pytest.raises(UserError, match="cannot be written: "):
            write(where, "two")
