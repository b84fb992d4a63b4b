"""`vgg` on FER2013 (Khaireddin & Chen 2021, arXiv:2105.03588); not trained yet.

Published: 73.3 % on PrivateTest. For a GPU or TPU: 912 MFLOPs a face.
"""

from configs import fer2013


def get_config():
    config = fer2013.get_config()
    config.model.name = "vgg"
    config.model.dropout_rate = 0.5
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.01
    config.optimizer.weight_decay = 1e-4
    config.train.batch_size = 64
    config.train.num_epochs = 100
    return config
