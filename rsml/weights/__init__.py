"""Weights and models in files of any hand, read as data."""
