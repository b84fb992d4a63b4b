"""Facial emotion recognition in JAX: train, evaluate, export and run in real time."""

__version__ = "0.1.0"
