"""Find the scenes most alike: measures, nearest neighbours, and an index kept in a folder."""

from rsml.evaluation.neighbors import knn_f1, knn_scores, nearest_rows
from rsml.retrieval.building import build_index
from rsml.retrieval.index import Index
from rsml.retrieval.measures import MEASURES, retrieval_measures, retrieval_metrics

__all__ = [
    "MEASURES",
    "Index",
    "build_index",
    "knn_f1",
    "knn_scores",
    "nearest_rows",
    "retrieval_measures",
    "retrieval_metrics",
]
