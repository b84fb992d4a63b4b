"""`tiny` on FER2013; it ships as `fer2013_tiny`.

67.6 % on PublicTest, one view. A quarter of an hour on two idle CPU cores, by its
measured speed.
"""

from configs import fer2013


def get_config():
    config = fer2013.get_config()
    config.model.name = "tiny"
    config.model.normalization = "face"
    config.augment.shear = 0.05
    config.augment.brightness = 0.1
    config.augment.contrast = 0.3
    config.augment.blur = 0.1
    config.loss.label_smoothing = 0.05
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 4e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.warmup_epochs = 2.0
    config.train.batch_size = 64
    config.train.num_epochs = 80
    config.train.ema_decay = 0.9995
    return config
