"""Nearest neighbours by cosine in plain numpy, and what they vote: the GRN paper's KNN classifier.

It serves training (a bank that changes every epoch needs no index); a kept archive is searched
by `rsml.retrieval.index`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from rsml.utils.errors import UserError

Weights = Literal["distance", "uniform"]
_QUERY_BLOCK, _BANK_BLOCK = 256, 65_536
"""Products held at once: 64 MB in float32."""
_GROUP = 64


def nearest_rows(
    bank: ArrayLike,
    queries: ArrayLike,
    k: int,
    *,
    own: ArrayLike | None = None,
    query_block: int = _QUERY_BLOCK,
    bank_block: int = _BANK_BLOCK,
) -> tuple[np.ndarray, np.ndarray]:
    """The k images of a bank that are nearest to each query by cosine, nearest first.

    The bank is worked through in blocks, so memory stays at `query_block * bank_block` products beside the inputs.
    Fewer than k images: as many as every query has. Equal distances: the lower row first.

    Args:
        bank: `(images, width)`; need not be of unit length. Any floating type; a memory map is read block by block.
        queries: `(queries, width)`.
        k: How many.
        own: `(queries,)` row of the bank that is the query's own image and is passed over; -1 for none.
        query_block: Queries worked on at once.
        bank_block: Images worked on at once.

    Returns:
        Rows `(queries, neighbours)` int64 and Euclidean distances of the unit vectors, `sqrt(2 - 2 cos)`.
    """
    bank, queries = _check_vectors(bank, "bank"), _check_vectors(queries, "queries")
    if bank.shape[1] != queries.shape[1]:
        raise UserError(
            f"the bank's vectors have {bank.shape[1]} values, the queries' {queries.shape[1]}; "
            "embed both with one model"
        )
    check_count(k)
    own = _check_own(own, len(queries), len(bank))
    count = min(int(k), len(bank) - (1 if own is not None and (own >= 0).any() else 0))
    if count < 1:
        raise UserError(
            f"an archive of {len(bank)} leaves no neighbour (an image is not its own); give at least two images"
        )
    rows = np.empty((len(queries), count), np.int64)
    distances = np.empty((len(queries), count))
    for begin in range(0, len(queries), query_block):
        block = slice(begin, begin + query_block)
        rows[block], distances[block] = _nearest_block(
            bank, unit(queries[block]), count, None if own is None else own[block], bank_block
        )
    return rows, distances


def _nearest_block(
    bank: np.ndarray, queries: np.ndarray, count: int, own: np.ndarray | None, bank_block: int
) -> tuple[np.ndarray, np.ndarray]:
    blocks = ((begin, unit(bank[begin : begin + bank_block]), None) for begin in range(0, len(bank), bank_block))
    rows = top_rows(blocks, queries, count, own)
    # sqrt(2 - 2 cos) of a rounded cosine loses half the digits where it matters most, at close neighbours.
    apart = unit(bank[rows.ravel()]).reshape(*rows.shape, -1).astype(np.float64) - queries[:, None]
    return by_distance(rows, np.sqrt(np.einsum("qkw,qkw->qk", apart, apart)))


def top_rows(
    blocks: Iterable[tuple[int, np.ndarray, np.ndarray | None]],
    queries: np.ndarray,
    count: int,
    own: np.ndarray | None = None,
) -> np.ndarray:
    """Rows `(queries, count)`, in no order, with the largest products (plus bias) over blocks of a bank.

    Args:
        blocks: First row, vectors `(rows, width)` and a number added to each row's products, or None.
        queries: `(queries, width)`.
        count: How many; the blocks together must hold as many beside the query's own.
        own: `(queries,)` row passed over; -1 for none.
    """
    rows = np.empty((len(queries), 0), np.int64)
    products = np.empty((len(queries), 0), np.float32)
    for begin, vectors, bias in blocks:
        found = queries @ vectors.T
        if bias is not None:
            found += bias
        if own is not None:
            inside = np.flatnonzero((own >= begin) & (own < begin + len(vectors)))
            found[inside, own[inside] - begin] = -np.inf
        best = largest(found, count)
        rows = np.concatenate([rows, best + begin], axis=1)
        products = np.concatenate([products, np.take_along_axis(found, best, 1)], axis=1)
        if rows.shape[1] > count:
            keep = _largest_of_few(products, count)
            rows, products = np.take_along_axis(rows, keep, 1), np.take_along_axis(products, keep, 1)
    return rows


def by_distance(rows: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorts each query's rows by distance, the lower row first among equals."""
    order = np.lexsort((rows, distances))
    return np.take_along_axis(rows, order, 1), np.take_along_axis(distances, order, 1)


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Columns of the `count` largest values of each row, in no order (all columns where there are fewer).

    The largest lie in the `count` groups of columns with the largest maxima: a maximum costs a tenth of a partition.
    """
    width = values.shape[1]
    if count >= width:
        return np.broadcast_to(np.arange(width), values.shape)
    groups = width // _GROUP
    if groups < 4 * count:
        return np.argpartition(values, width - count, axis=1)[:, width - count :]
    whole = groups * _GROUP
    maxima = values[:, :whole].reshape(len(values), groups, _GROUP).max(2)
    chosen = np.argpartition(maxima, groups - count, axis=1)[:, groups - count :]
    columns = (chosen[:, :, None] * _GROUP + np.arange(_GROUP)).reshape(len(values), -1)
    rest = np.broadcast_to(np.arange(whole, width), (len(values), width - whole))
    columns = np.concatenate([columns, rest], axis=1)
    best = _largest_of_few(np.take_along_axis(values, columns, 1), count)
    return np.take_along_axis(columns, best, 1)


def _largest_of_few(values: np.ndarray, count: int) -> np.ndarray:
    """Columns of the `count` largest values of each row, by partition."""
    return np.argpartition(values, values.shape[1] - count, axis=1)[:, values.shape[1] - count :]


def knn_scores(
    bank: ArrayLike,
    bank_labels: ArrayLike,
    queries: ArrayLike,
    k: int = 10,
    weights: Weights = "distance",
    own: ArrayLike | None = None,
) -> np.ndarray:
    """What share of its neighbours' votes each label gets: scikit-learn's weighted KNN on unit vectors, as in GRN.

    A neighbour at Euclidean distance d of the unit vectors (the order of cosine) votes with weight 1/d; neighbours at
    distance 0 decide alone. A label is predicted when its score is greater than 0.5. With fewer than k images all vote.

    Args:
        bank: `(images, width)` embeddings.
        bank_labels: 0 or 1, `(images, labels)`.
        queries: `(queries, width)`.
        k: Neighbours.
        weights: "distance" or "uniform".
        own: `(queries,)` the query's own row in the bank, which does not vote; -1 for none.

    Returns:
        `(queries, labels)` float64 in [0, 1].
    """
    if weights not in ("distance", "uniform"):
        raise UserError(f'KNN weights are {weights!r}; expected "distance" or "uniform"')
    labels = np.asarray(bank_labels)
    bank = np.asarray(bank)
    if labels.ndim != 2 or len(labels) != len(bank):
        raise UserError(
            f"the bank holds {len(bank)} images, its labels have shape {labels.shape}; give one row an image"
        )
    rows, distances = nearest_rows(bank, queries, k, own=own)
    votes = np.ones_like(distances)
    if weights == "distance":
        same = distances == 0
        votes = np.where(same.any(1)[:, None], same, 1 / np.where(same, 1, distances))
    return np.einsum("qk,qkl->ql", votes / votes.sum(1, keepdims=True), labels[rows].astype(np.float64))


def knn_f1(
    bank: ArrayLike,
    bank_labels: ArrayLike,
    queries: ArrayLike,
    query_labels: ArrayLike,
    k: int = 10,
    weights: Weights = "distance",
    own: ArrayLike | None = None,
) -> float:
    """Sample-averaged F1 of the KNN vote, the validation metric of GRN. Arguments as in `knn_scores`."""
    from rsml.evaluation import multilabel_metrics

    return multilabel_metrics(query_labels, knn_scores(bank, bank_labels, queries, k, weights, own))["samples_f1"]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors `(n, width)` as float32 of unit length; a zero vector stays zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.sqrt(np.einsum("nw,nw->n", vectors, vectors, dtype=np.float64))[:, None]
    if not np.isfinite(lengths).all():
        raise UserError(
            f"{int((~np.isfinite(lengths)).sum())} embeddings hold NaN or infinity; the model that made them has "
            "diverged or its input was not finite"
        )
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def check_count(k: int) -> None:
    """Refuses a number of neighbours that is no whole number from 1."""
    if int(k) != k or k < 1:
        raise UserError(f"k is {k}; it must be a whole number from 1")


def _check_vectors(vectors: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(vectors)
    if array.ndim != 2 or 0 in array.shape:
        raise UserError(f"{name} must have shape (images, width) with at least one image, found {array.shape}")
    if array.dtype.kind not in "fiu":
        raise UserError(f"{name} must be numbers, found type {array.dtype}")
    return array


def _check_own(own: ArrayLike | None, queries: int, images: int) -> np.ndarray | None:
    if own is None:
        return None
    rows = np.asarray(own)
    if rows.shape != (queries,) or rows.dtype.kind not in "iu" or (rows.size and rows.max() >= images):
        raise UserError(f"own must name one of {images} rows, or -1, for each of {queries} queries, found {rows.shape}")
    return rows.astype(np.int64)
