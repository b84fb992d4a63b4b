"""Data sets (TFDS builders) and the two input pipelines."""
