"""`tiny` on FER2013, taught by fer2013_mobilenet, which knows VGGFace2's faces.

67.9 % on PublicTest, one view: within chance of what fer2013_tiny reaches alone. An
hour on two CPU cores.
"""

from configs import fer2013_tiny


def get_config():
    config = fer2013_tiny.get_config()
    config.augment.blur = 0.0
    config.augment.mixup_alpha = 0.2
    config.loss.label_smoothing = 0.0
    config.distill.teachers = ("results/fer2013_mobilenet/model",)
    config.distill.weight = 0.7
    config.distill.fixed = True
    config.train.batch_size = 128
    config.train.num_epochs = 150
    config.train.validate_every_epochs = 4
    return config
