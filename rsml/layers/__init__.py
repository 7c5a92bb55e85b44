"""Keras layers of the published methods and of the backbones."""

from rsml.layers.adaptive_pool import AdaptiveAveragePool
from rsml.layers.attention import SelfAttention, WindowAttention
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
from rsml.layers.tokens import LayerScale, MapToTokens, MergeNeighbors, Tokens, TokensToMap

__all__ = [
    "SIGNA",
    "AdaptiveAveragePool",
    "Companion",
    "GraphConvolution",
    "LabelGraphClassifier",
    "LayerScale",
    "MapToTokens",
    "MeanTeacher",
    "MergeNeighbors",
    "NeighborMemory",
    "Preprocess",
    "Probe",
    "ScenePredictions",
    "SelfAttention",
    "SqueezeExcite",
    "Tokens",
    "TokensToMap",
    "WindowAttention",
    "signa_attention",
]
