"""`small` on FER2013, from random weights.

68.4 % on PublicTest, one view, 69.1 % with ten crops. Minutes on an H100; on two CPU
cores two hours, estimated.
"""

from configs import fer2013


def get_config():
    config = fer2013.get_config()
    config.model.name = "small"
    config.model.dtype = "bfloat16"
    config.model.normalization = "face"
    config.model.dropout_rate = 0.2
    config.model.options.stochastic_depth = 0.1
    config.augment.scale = 0.15
    config.augment.shift = 0.1
    config.augment.shear = 0.05
    config.augment.brightness = 0.1
    config.augment.contrast = 0.3
    config.augment.blur = 0.2
    config.augment.erasing = 0.2
    config.augment.cover = 0.15
    config.augment.noise = 0.2
    config.augment.mixup_alpha = 0.2
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.1
    config.optimizer.warmup_epochs = 3.0
    config.train.batch_size = 256
    config.train.num_epochs = 72
    config.train.ema_decay = 0.999
    config.train.validate_every_epochs = 4
    return config
