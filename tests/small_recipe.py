"""A run of seconds: few faces and a small network of tiny's family.

For `--config tests/small_recipe.py`, and the fixture `small_config`.
"""

from ml_collections import FrozenConfigDict

from configs import default


def augment_options(**fields) -> FrozenConfigDict:
    """`config.augment` with these fields; hashable, a static argument of jit."""
    return FrozenConfigDict(default.get_config().augment.to_dict() | fields)


def get_config():
    config = default.get_config()
    config.dataset.name = "synthetic_faces/small"
    config.model.options = {
        "stem_features": 8,
        "stage_features": (8, 16),
        "stage_blocks": (1, 1),
    }
    # 280 faces in batches of 28: ten steps an epoch.
    config.train.batch_size = 28
    config.train.num_epochs = 2
    config.train.log_every_steps = 3
    config.optimizer.warmup_epochs = 0.5
    config.lock()
    return config
