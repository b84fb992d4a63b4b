"""`tiny` of configs/ferplus_tiny.py, gone on with crops as detectors deliver them.

Taught by configs/ferplus_small.py. An hour on two CPU cores.
"""

from configs import ferplus_tiny


def get_config():
    config = ferplus_tiny.get_config()
    config.model.init_from = "runs/ferplus_tiny"
    config.distill.teachers = ("runs/ferplus_small",)
    config.augment.framing = 0.5
    config.augment.cover = 0.25
    config.optimizer.learning_rate = 1.5e-3
    config.optimizer.warmup_epochs = 0.5
    config.train.validate_every_epochs = 2
    config.train.ema_decay = 0.998
    config.train.num_epochs = 10
    return config
