"""Keras losses of the published methods."""

from rsml.losses.improved_cross_entropy import ImprovedCrossEntropy
from rsml.losses.land_cover import LandCoverClassification, TeacherConsistency
from rsml.losses.multi_label import AsymmetricLoss, FocalLoss
from rsml.losses.neighbors import scalable_neighbor_loss
from rsml.losses.ranking import FeatureRanking, LabelRanking, SampleRanking

__all__ = [
    "AsymmetricLoss",
    "FeatureRanking",
    "FocalLoss",
    "ImprovedCrossEntropy",
    "LabelRanking",
    "LandCoverClassification",
    "SampleRanking",
    "TeacherConsistency",
    "scalable_neighbor_loss",
]
