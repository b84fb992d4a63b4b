"""Data sets (TFDS builders) and the two input pipelines."""

import os

# Before TensorFlow is first imported, by TFDS or clu: without these it fills the
# terminal with notes on oneDNN and on its own logging.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
