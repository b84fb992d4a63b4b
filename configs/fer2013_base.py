"""`base` on FER2013, from random weights.

68.0 % on PublicTest, one view, 68.5 % with ten crops. Minutes on an H100; on two CPU
cores five hours, estimated.
"""

from configs import fer2013_small


def get_config():
    config = fer2013_small.get_config()
    config.model.name = "base"
    config.model.dropout_rate = 0.3
    config.augment.cutmix_alpha = 1.0
    config.loss.label_smoothing = 0.05
    config.optimizer.learning_rate = 2e-3
    config.train.num_epochs = 66
    return config
