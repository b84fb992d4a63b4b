"""ResNet-50 from ImageNet's weights, fine-tuned on FER2013; not trained yet.

Port torchvision's file first: python scripts/port_weights.py --source torchvision
--file resnet50.safetensors --out downloads/resnet50.safetensors

Published: 73.2 % on PrivateTest. For a GPU or TPU: 2,007 MFLOPs a face.
"""

from configs import fer2013


def get_config():
    config = fer2013.get_config()
    config.model.name = "resnet50"
    config.model.pretrained = "downloads/resnet50.safetensors"
    config.model.input_size = 112
    config.model.input_channels = 3
    # ImageNet's, as torchvision's weights expect them.
    config.model.mean = (0.485, 0.456, 0.406)
    config.model.std = (0.229, 0.224, 0.225)
    config.model.dropout_rate = 0.3
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_epochs = 0.5
    # Two phases: the head, then all.
    config.optimizer.groups = (("head/.*", 1.0), (".*", 0.2, 2))
    config.optimizer.group_warmup_epochs = 1.0
    config.train.num_epochs = 20
    config.train.ema_decay = 0.999
    return config
