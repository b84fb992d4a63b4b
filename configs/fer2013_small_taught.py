"""`small` on FER2013, from the `small` that ships (FER+), taught by fer2013_mobilenet.

It knows more than FER2013's labels: FER+'s votes and the faces of VGGFace2.
69.4 % on PublicTest, one view, 69.6 % with ten crops; an hour and a half on two CPU
cores.
"""

from configs import fer2013_small


def get_config():
    config = fer2013_small.get_config()
    config.model.init_from = "small"
    config.model.dtype = "float32"
    config.augment.scale = 0.1
    config.augment.shift = 0.08
    config.augment.blur = 0.0
    config.augment.cover = 0.0
    config.augment.noise = 0.0
    config.loss.label_smoothing = 0.0
    config.distill.teachers = ("results/fer2013_mobilenet/model",)
    config.distill.weight = 0.5
    config.distill.fixed = True
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_epochs = 2.0
    config.train.batch_size = 128
    config.train.num_epochs = 28
    config.train.validate_every_epochs = 2
    return config
