"""What all FER2013 recipes share: data, protocol and augmentation.

Trained on Training, epochs chosen on PublicTest.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "fer2013"
    config.dataset.train_split = "train"
    config.dataset.validation_split = "public_test"
    config.augment.flip = 0.5
    config.augment.rotation = 12.0
    config.augment.scale = 0.12
    config.augment.shift = 0.08
    config.augment.shear = 0.08
    config.augment.brightness = 0.15
    config.augment.contrast = 0.25
    config.augment.gamma = 0.2
    config.augment.erasing = 0.2
    config.loss.label_smoothing = 0.1
    return config
