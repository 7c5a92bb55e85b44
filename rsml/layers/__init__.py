"""Keras layers of the published methods."""
