"""The `tiny` that ships, fine-tuned on faces of your own (data set image_folder/mine).

Prepare them first: python scripts/prepare_data.py --dataset image_folder/mine
--manual_dir FOLDER. Other classes than ours are welcome: the head is new then.
Seconds for each thousand faces on two CPU cores; how accurate it is depends on the
faces.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.dataset.name = "image_folder/mine"
    config.model.name = "tiny"
    config.model.init_from = "tiny"
    config.model.normalization = "face"
    config.augment.flip = 0.5
    config.augment.rotation = 10.0
    config.augment.scale = 0.1
    config.augment.shift = 0.06
    config.augment.brightness = 0.1
    config.augment.contrast = 0.2
    config.loss.label_smoothing = 0.05
    config.optimizer.learning_rate = 5e-4
    config.optimizer.warmup_epochs = 1.0
    config.train.batch_size = 32
    config.train.num_epochs = 15
    config.train.ema_decay = 0.99
    return config
