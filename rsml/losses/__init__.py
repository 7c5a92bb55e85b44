"""Keras losses of the published methods."""
