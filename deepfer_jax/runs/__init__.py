"""A run's folder: configuration, checkpoints, metrics, and the trained model in it."""
