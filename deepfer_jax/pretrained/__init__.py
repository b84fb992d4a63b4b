"""Weights from elsewhere: where they are found, and how they become ours."""
