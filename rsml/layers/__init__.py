"""Keras layers of the published methods."""

from rsml.layers.preprocess import Preprocess
from rsml.layers.scene_predictions import ScenePredictions

__all__ = ["Preprocess", "ScenePredictions"]
