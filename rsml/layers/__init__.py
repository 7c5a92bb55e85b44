"""Keras layers of the published methods."""

from rsml.layers.companion import Companion
from rsml.layers.graph_convolution import GraphConvolution
from rsml.layers.label_graph_classifier import LabelGraphClassifier
from rsml.layers.mean_teacher import MeanTeacher
from rsml.layers.neighbor_memory import NeighborMemory
from rsml.layers.preprocess import Preprocess
from rsml.layers.probe import Probe
from rsml.layers.scene_predictions import ScenePredictions
from rsml.layers.signa import SIGNA, signa_attention
from rsml.layers.squeeze_excite import SqueezeExcite

__all__ = [
    "SIGNA",
    "Companion",
    "GraphConvolution",
    "LabelGraphClassifier",
    "MeanTeacher",
    "NeighborMemory",
    "Preprocess",
    "Probe",
    "ScenePredictions",
    "SqueezeExcite",
    "signa_attention",
]
