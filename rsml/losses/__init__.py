"""Keras losses of the published methods."""

from rsml.losses.improved_cross_entropy import ImprovedCrossEntropy
from rsml.losses.multi_label import AsymmetricLoss, FocalLoss
from rsml.losses.neighbors import scalable_neighbor_loss
from rsml.losses.ranking import FeatureRanking, LabelRanking, SampleRanking
from rsml.losses.teacher_consistency import TeacherConsistency

__all__ = [
    "AsymmetricLoss",
    "FeatureRanking",
    "FocalLoss",
    "ImprovedCrossEntropy",
    "LabelRanking",
    "SampleRanking",
    "TeacherConsistency",
    "scalable_neighbor_loss",
]
