"""Training: the loop, its step, losses, optimisers and phases."""
