"""run: fields are checked, and a folder belongs to one configuration."""

import json
import logging

import pytest

from configs import default
from deepfer_jax.errors import UserError
from deepfer_jax.runs.workdir import open_workdir, restore_run
from deepfer_jax.training.config import check_config


@pytest.fixture
def config():
    config = default.get_config()
    config.lock()
    return config


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dataset.validation_split", "private_test", "never chosen on a test split"),
        ("dataset.validation_split", "test", "never chosen on a test split"),
        ("dataset.validation_split", "train", "must differ from train_split"),
        ("train.batch_size", 0, "batch_size: expected 1 or more, found 0"),
        ("train.num_epochs", 0, "num_epochs: expected 1 or more, found 0"),
        ("train.ema_decay", 1.0, "ema_decay: expected 0 <= decay < 1, found 1.0"),
        ("train.profile_steps", (3,), r"profile_steps: expected .* found \(3,\)"),
        ("augment.flip", 2.0, "augment.flip: expected .* found 2.0"),
        ("loss.class_weights", "equal", "class_weights: expected .* found 'equal'"),
        ("seed", -1, "seed: expected 0 or more, found -1"),
    ],
)
def test_bad_fields_are_named(config, field, value, message):
    check_config(config)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        check_config(config)


def test_an_unknown_field_is_an_error(config):
    with pytest.raises(AttributeError, match="learning_rat"):
        config.optimizer.learning_rat = 1.0


def start_run(workdir, config):
    """Opens a folder and leaves what a saved checkpoint leaves."""
    open_workdir(workdir, config)
    (workdir / "checkpoints").mkdir()
    (workdir / "checkpoints" / "10.sha256").touch()


def test_the_same_configuration_opens_again(tmp_path, config):
    start_run(tmp_path, config)
    open_workdir(tmp_path, config)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model"]["mean"] == [0.508]


def test_without_a_checkpoint_any_configuration_may_start(tmp_path, config):
    open_workdir(tmp_path, config)
    config.seed = 3
    open_workdir(tmp_path, config)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 3


def test_another_configuration_is_refused_by_its_fields(tmp_path, config):
    start_run(tmp_path, config)
    config.seed = 3
    config.optimizer.learning_rate = 1.0
    with pytest.raises(UserError) as error:
        open_workdir(tmp_path, config)
    assert "seed: 0 there, 3 now" in str(error.value)
    assert "optimizer.learning_rate: 0.002 there, 1.0 now" in str(error.value)
    assert "batch_size" not in str(error.value)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_logging_and_length_may_change(tmp_path, config, caplog):
    start_run(tmp_path, config)
    config.train.num_epochs = 20
    config.train.log_every_steps = 7
    config.evaluation.batch_size = 3
    with caplog.at_level(logging.INFO):
        open_workdir(tmp_path, config)
    assert "num_epochs was 10, now 20" in caplog.text


def test_folders_that_are_no_run_are_refused(tmp_path, config):
    with pytest.raises(UserError, match=r"config.json is missing"):
        restore_run(tmp_path)
    start_run(tmp_path, config)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is damaged"):
        open_workdir(tmp_path, config)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"checkpoints but no config.json"):
        open_workdir(tmp_path, config)
