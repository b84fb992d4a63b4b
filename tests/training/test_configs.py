"""configs: every recipe is whole, and builds a network, an optimiser and a schedule."""

import importlib
import pathlib

import pytest

from deepfer_jax.data.emotions import EMOTIONS
from deepfer_jax.errors import UserError
from deepfer_jax.runs.trained import build_model
from deepfer_jax.training import optim
from deepfer_jax.training.config import check_config
from deepfer_jax.training.groups import Groups

FOLDER = pathlib.Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_recipe(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    config.lock()
    check_config(config)
    build_model(config.model, EMOTIONS)
    schedule = optim.create_schedule(config.optimizer, 10, 10 * config.train.num_epochs)
    phase = Groups(config.optimizer.groups).phase(0)
    optim.create_optimizer(config.optimizer, schedule, phase, 10)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model.name", "huge", r"config.model: .*'tiny'.* found 'huge'"),
        ("model.dtype", "float16", r"config.model.dtype: .* found 'float16'"),
        ("model.options", {"stem": "small"}, r"config.model: .*'stem'"),
    ],
)
def test_networks_that_there_are_not(field, value, message):
    from configs import default

    config = default.get_config()
    config.update({field.split(".")[0]: {field.split(".")[1]: value}})
    with pytest.raises(UserError, match=message):
        build_model(config.model, EMOTIONS)
