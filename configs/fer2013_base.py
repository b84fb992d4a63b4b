"""`base` on FER2013, for a GPU or TPU (about 3 hours on two CPU cores)."""

from configs import fer2013


def get_config():
    config = fer2013.get_config()
    config.model.name = "base"
    config.model.dropout_rate = 0.3
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_epochs = 3.0
    config.train.batch_size = 128
    config.train.num_epochs = 60
    config.train.ema_decay = 0.999
    return config
