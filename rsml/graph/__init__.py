"""Labels turned into a label graph and word vectors."""

from rsml.graph.cooccurrence import (
    EdgeCounts,
    conditional_probabilities,
    cooccurrence,
    edge_counts,
    normalized_adjacency,
    reweighted_adjacency,
    threshold_graph,
)
from rsml.graph.word_vectors import word_vectors

__all__ = [
    "EdgeCounts",
    "conditional_probabilities",
    "cooccurrence",
    "edge_counts",
    "normalized_adjacency",
    "reweighted_adjacency",
    "threshold_graph",
    "word_vectors",
]
