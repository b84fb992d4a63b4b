"""`small` on FER+ by its own protocol: eight classes, majority of ten votes."""

from configs import fer2013_small


def get_config():
    config = fer2013_small.get_config()
    config.dataset.name = "ferplus/majority"
    config.train.num_epochs = 48
    return config
