"""`tiny` on FER2013: about half an hour on two CPU cores, about 64 % on PublicTest."""

from configs import fer2013


def get_config():
    config = fer2013.get_config()
    config.model.name = "tiny"
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.warmup_epochs = 2.0
    config.train.batch_size = 64
    config.train.num_epochs = 36
    config.train.ema_decay = 0.999
    return config
