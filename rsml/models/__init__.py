"""Backbones, layers put into them, and the complete classifier."""
