"""Backbones, layers put into them, and the complete classifier."""

from rsml.models.backbones import Backbone, load_backbone
from rsml.models.classifier import Classifier, build_classifier
from rsml.models.insert import insert_after
from rsml.models.names import backbone_names
from rsml.models.surgery import output_of, stages_of
from rsml.weights.load import load_weights
from rsml.weights.models import load_model
from rsml.weights.pairing import adapt_bands
from rsml.weights.report import LoadReport

__all__ = [
    "Backbone",
    "Classifier",
    "LoadReport",
    "adapt_bands",
    "backbone_names",
    "build_classifier",
    "insert_after",
    "load_backbone",
    "load_model",
    "load_weights",
    "output_of",
    "stages_of",
]
