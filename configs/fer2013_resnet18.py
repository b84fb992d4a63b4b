"""ResNet-18 on FER2013's 48 pixels, from random weights; not trained yet.

For a GPU or TPU: 2,272 MFLOPs a face, twenty hours on two CPU cores,
estimated.
"""

from configs import fer2013


def get_config():
    config = fer2013.get_config()
    config.model.name = "resnet18"
    config.model.options = {"stem": "small", "zero_init_residual": True}
    config.model.dropout_rate = 0.3
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.05
    config.optimizer.weight_decay = 5e-4
    config.optimizer.warmup_epochs = 2.0
    config.train.batch_size = 128
    config.train.num_epochs = 80
    config.train.ema_decay = 0.999
    return config
