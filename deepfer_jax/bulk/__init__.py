"""Photographs in bulk: lists of millions, read by threads or by a Ray cluster."""
