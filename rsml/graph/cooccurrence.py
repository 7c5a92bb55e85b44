"""Label co-occurrence: from 0/1 annotations to the thresholded, normalised label graph (SIGNA, eq. 1, 2 and 4)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rsml.utils.errors import UserError


class EdgeCounts(NamedTuple):
    """How many directed edges a label graph has.

    Attributes:
        per_label: edges that leave or enter each label, `(labels,)`.
        total: all directed edges (each is counted by two labels).
    """

    per_label: np.ndarray
    total: int


def cooccurrence(labels: ArrayLike) -> np.ndarray:
    """Count the images in which two labels stand together.

    Args:
        labels: annotations of the training images, 0 or 1, `(images, labels)`.

    Returns:
        Counts `N` as int64, `(labels, labels)`: `N[i, j]` images have both `i` and `j`, `N[i, i]` have `i`.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or 0 in labels.shape:
        raise UserError(
            f"label matrix: expected 0/1 values of shape (images, labels), got shape {labels.shape}; "
            "give one row an image"
        )
    if labels.shape[1] < 2:
        raise UserError(
            "label matrix: a label graph needs two labels or more, got one; choose a method without a graph"
        )
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        raise UserError("label matrix: expected only 0 and 1, found other values; encode the labels as multi-hot first")
    present = labels.astype(np.int64)
    return present.T @ present


def conditional_probabilities(counts: ArrayLike) -> np.ndarray:
    """Turn counts into `P[i, j] = N[i, j] / N[i, i]`, the share of the images with `i` that also show `j` (eq. 1).

    Args:
        counts: co-occurrence counts, `(labels, labels)`.

    Returns:
        Probabilities as float64, `(labels, labels)`. A label that never occurs has a row of zeros, diagonal included.
    """
    counts = _square(counts, "co-occurrence counts")
    occurrences = np.diag(counts)[:, None]
    if (counts < 0).any() or (counts > occurrences).any():
        raise UserError(
            "co-occurrence counts: expected 0 <= N[i, j] <= N[i, i], found other values; "
            "pass what cooccurrence(labels) returns"
        )
    return np.divide(counts, occurrences, out=np.zeros(counts.shape), where=occurrences > 0)


def threshold_graph(counts: ArrayLike, threshold: float = 0.4) -> np.ndarray:
    """Keep the edges whose conditional probability reaches the threshold (eq. 2), without self-loops.

    Args:
        counts: co-occurrence counts, `(labels, labels)`.
        threshold: `Q` of the paper, in [0, 1].

    Returns:
        Graph `G` as float32, `(labels, labels)`: `P[i, j]` where `P[i, j] >= threshold`, else 0; zero diagonal.
    """
    if not isinstance(threshold, (int, float, np.number)) or not 0 <= threshold <= 1:
        raise UserError(f"graph threshold: expected a number in [0, 1], got {threshold!r}; the paper uses 0.4")
    probabilities = conditional_probabilities(counts)
    graph = np.where(probabilities >= threshold, probabilities, 0.0)
    np.fill_diagonal(graph, 0.0)
    return graph.astype(np.float32)


def normalized_adjacency(graph: ArrayLike) -> np.ndarray:
    """Add self-loops and normalise symmetrically: `D^-1/2 (G + I) D^-1/2` with `D` the row sums of `G + I` (eq. 4).

    Args:
        graph: non-negative edge weights with a zero diagonal, `(labels, labels)`.

    Returns:
        Normalised adjacency as float32, `(labels, labels)`. A label without edges keeps its self-loop alone.
    """
    graph = _square(graph, "label graph")
    if (graph < 0).any() or np.diag(graph).any():
        raise UserError(
            "label graph: expected weights >= 0 and a zero diagonal, found other values; "
            "pass what threshold_graph returns"
        )
    looped = graph + np.eye(len(graph))
    scale = looped.sum(axis=1) ** -0.5
    return (scale[:, None] * looped * scale).astype(np.float32)


def reweighted_adjacency(graph: ArrayLike, neighbor_share: float = 0.2) -> np.ndarray:
    """Re-weight a graph as ML-GCN does against over-smoothing: neighbours share `p`, the label keeps `1 - p`.

    This is eq. 8 of ML-GCN. The rows sum to 1, so the symmetric normalisation of eq. 4 would change nothing. The
    authors' code does the same to the transposed graph with `0.25 : 1` for `0.2 : 0.8`; pass `graph.T` for that.

    Args:
        graph: edge weights, of which only "zero or not" is used, `(labels, labels)`.
        neighbor_share: `p` of the ML-GCN paper, in [0, 1].

    Returns:
        Row-stochastic adjacency as float32, `(labels, labels)`. A label without edges keeps all of itself.

    Reference:
        Chen et al., Multi-Label Image Recognition with Graph Convolutional Networks, CVPR 2019.
    """
    graph = _square(graph, "label graph")
    if not 0 <= neighbor_share <= 1:
        raise UserError(f"neighbor_share: expected a number in [0, 1], got {neighbor_share!r}; ML-GCN uses 0.2")
    edges = (graph != 0).astype(np.float64)
    np.fill_diagonal(edges, 0.0)
    degree = edges.sum(axis=1, keepdims=True)
    shared = neighbor_share * np.divide(edges, degree, out=np.zeros_like(edges), where=degree > 0)
    return (shared + np.diag(1.0 - shared.sum(axis=1))).astype(np.float32)


def edge_counts(graph: ArrayLike) -> EdgeCounts:
    """Count the directed edges of a label graph, per label (leaving plus entering) and in all."""
    edges = _square(graph, "label graph") != 0
    np.fill_diagonal(edges, False)
    return EdgeCounts(edges.sum(axis=0) + edges.sum(axis=1), int(edges.sum()))


def _square(matrix: ArrayLike, what: str) -> np.ndarray:
    try:
        matrix = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{what}: expected a square matrix of numbers (labels, labels), got something else") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise UserError(f"{what}: expected a square matrix (labels, labels), got shape {matrix.shape}")
    if len(matrix) < 2:
        raise UserError(f"{what}: needs two labels or more, got {len(matrix)}; choose a method without a label graph")
    if not np.isfinite(matrix).all():
        raise UserError(f"{what}: expected finite numbers, found NaN or infinity; count again from the 0/1 labels")
    return matrix
