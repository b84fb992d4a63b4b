"""`tiny` on FER+: eight classes, soft labels from ten votes a face (untrained yet)."""

from configs import fer2013_tiny


def get_config():
    config = fer2013_tiny.get_config()
    config.dataset.name = "ferplus/distribution"
    # The votes are soft already.
    config.loss.label_smoothing = 0.0
    return config
