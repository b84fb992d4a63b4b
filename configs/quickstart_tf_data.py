"""The quickstart through tf.data, as for data larger than memory."""

from configs import quickstart


def get_config():
    config = quickstart.get_config()
    config.dataset.pipeline = "tf.data"
    return config
