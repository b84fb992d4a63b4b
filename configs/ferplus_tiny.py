"""`tiny` on FER+, seven classes, taught by configs/ferplus_teacher.py: it ships.

84.2 % on PublicTest, one view. Minutes on an H100; on two CPU cores three hours,
estimated, most of them the teacher's.
"""

from configs import ferplus_small


def get_config():
    config = ferplus_small.get_config()
    config.model.name = "tiny"
    config.model.dropout_rate = 0.0
    config.model.options.stochastic_depth = 0.0
    config.optimizer.learning_rate = 4e-3
    config.optimizer.weight_decay = 0.05
    config.train.ema_decay = 0.9995
    config.train.num_epochs = 78
    return config
