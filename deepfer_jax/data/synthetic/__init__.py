"""Faces drawn by code: a data set that needs no download."""
