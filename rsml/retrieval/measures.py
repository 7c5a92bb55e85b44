"""How good a ranking of retrieved images is: MAP, weighted MAP, NDCG, ACG, precision and Hamming loss at R."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rsml.utils.errors import UserError

AT = (5, 10, 20, 50)
"""The depths measured by default."""

MEASURES = ("map", "wmap", "ndcg", "acg", "precision", "hamming_loss")
"""Every measure at R, in the order of the tables."""

_BLOCK = 16_000_000
"""Values held at once by one temporary array (64 MB in float32)."""


def retrieval_measures(
    query_labels: ArrayLike, retrieved: ArrayLike, archive_labels: ArrayLike | None = None, at: Sequence[int] = AT
) -> dict[str, np.ndarray]:
    """Every measure at R of every query.

    The gain `g_r` of the image at rank r is the number of labels it shares with the query; it is relevant,
    `rel_r = 1`, if it shares at least one. With one-hot labels all of this is single-label retrieval.

    | name | of one query |
    |---|---|
    | `precision` | P@R = sum_{r<=R} rel_r / R |
    | `acg` | average cumulative gain, ACG@R = sum_{r<=R} g_r / R |
    | `map` | average precision, sum_{r<=R} rel_r P@r / sum_{r<=R} rel_r |
    | `wmap` | weighted average precision, sum_{r<=R} rel_r ACG@r / sum_{r<=R} rel_r |
    | `ndcg` | DCG@R / IDCG@R, DCG@R = sum_{r<=R} (2^g_r - 1) / log2(r + 1) |
    | `hamming_loss` | mean over r<=R of the share of labels in which query and retrieved image differ |

    `map`, `wmap` are 0 where none of the R images is relevant; R counts only what was retrieved, as in the hashing and
    GRN literature: to know how much of the archive was missed, measure at the archive's size. IDCG is the DCG of the
    best order of the whole archive if `archive_labels` are given, else of the retrieved images.
    `map`, `wmap` and `ndcg` are NaN for a query that no image could answer: none of the archive shares a label with it,
    or, without `archive_labels`, it has no label.

    Args:
        query_labels: 0 or 1, `(queries, labels)`.
        retrieved: Best first: rows of the archive `(queries, depth)`, or their labels `(queries, depth, labels)`.
        archive_labels: `(images, labels)`; needed when `retrieved` holds rows.
        at: The depths R.

    Returns:
        `(queries, len(at))` float64 for each name of `MEASURES`.

    References:
        - [Zhao et al., 2015](https://arxiv.org/abs/1501.06272) (NDCG, ACG, weighted MAP)
        - [Kang et al., 2020](https://doi.org/10.1109/TGRS.2020.3016020) (GRN: MAP, WMAP, ACG, Hamming loss at R)
    """
    queries = _binary(query_labels, "query labels", 2)
    archive = None if archive_labels is None else _binary(archive_labels, "archive labels", 2)
    found = np.asarray(retrieved)
    if found.ndim == 2:
        _check_rows(found, archive)
    else:
        found = _binary(found, "labels of the retrieved images", 3)
    if len(found) != len(queries):
        raise UserError(f"{len(queries)} queries, but the images retrieved for {len(found)}; give one ranking a query")
    for name, other in (("archive labels", archive), ("labels of the retrieved images", found)):
        if other is not None and not (other is found and found.ndim == 2) and other.shape[-1] != queries.shape[1]:
            raise UserError(
                f"{name} have {other.shape[-1]} columns, the query labels {queries.shape[1]}; both need the same labels"
            )
    depths = _depths(at, found.shape[1])
    sets = None if archive is None else _label_sets(archive)
    result = {name: np.empty((len(queries), len(depths))) for name in MEASURES}
    for rows in _blocks(queries, found, sets):
        labels = queries[rows].astype(np.float32)
        seen = (found[rows] if archive is None or found.ndim == 3 else archive[found[rows]]).astype(np.float32)
        gains = np.matmul(seen[:, : depths[-1]], labels[:, :, None])[..., 0].astype(np.float64)
        differing = seen[:, : depths[-1]].sum(-1) + labels.sum(1)[:, None] - 2 * gains
        best, answerable = _best_order(labels, gains, sets)
        for name, values in _measures(gains, best, differing / queries.shape[1]).items():
            result[name][rows] = values[:, depths - 1]
        for name in ("map", "wmap", "ndcg"):
            result[name][rows] = np.where(answerable[:, None], result[name][rows], np.nan)
    order = np.argsort(np.argsort(at, kind="stable"), kind="stable")
    return {name: values[:, order] for name, values in result.items()}


def retrieval_metrics(
    query_labels: ArrayLike, retrieved: ArrayLike, archive_labels: ArrayLike | None = None, at: Sequence[int] = AT
) -> dict[str, float]:
    """Means of `retrieval_measures` over the queries: `{"map@5": ..., "map@10": ..., "wmap@5": ...}`.

    Queries that no image could answer are left out of MAP, WMAP and NDCG, not of the others.
    """
    measures = retrieval_measures(query_labels, retrieved, archive_labels, at)
    if np.isnan(measures["map"]).all():
        raise UserError(
            "no query shares a label with any image of the archive, so MAP, WMAP and NDCG are undefined; "
            "check that both have the same labels in the same order"
        )
    means = {name: np.nanmean(values, axis=0) for name, values in measures.items()}
    return {f"{name}@{depth}": float(means[name][i]) for name in MEASURES for i, depth in enumerate(at)}


def _measures(gains: np.ndarray, best: np.ndarray, differing: np.ndarray) -> dict[str, np.ndarray]:
    """Every measure at every depth from gains, best possible gains and differing shares `(queries, depth)`."""
    ranks = np.arange(1, gains.shape[1] + 1)
    relevant = (gains > 0).astype(np.float64)
    hits = relevant.cumsum(1)
    precision, gain = hits / ranks, gains.cumsum(1) / ranks
    discount = np.log2(ranks + 1)
    reached, ideal = (((np.exp2(g) - 1) / discount).cumsum(1) for g in (gains, best))
    none = np.zeros_like(gains)
    return {
        "map": np.divide((precision * relevant).cumsum(1), hits, out=none.copy(), where=hits > 0),
        "wmap": np.divide((gain * relevant).cumsum(1), hits, out=none.copy(), where=hits > 0),
        "ndcg": np.divide(reached, ideal, out=none, where=ideal > 0),
        "acg": gain,
        "precision": precision,
        "hamming_loss": differing.cumsum(1) / ranks,
    }


def _best_order(
    labels: np.ndarray, gains: np.ndarray, sets: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Gains of the best possible ranking `(queries, depth)`, and which queries have a relevant image at all."""
    if sets is None:
        return -np.sort(-gains, axis=1), np.asarray(labels.any(1))
    label_sets, counts = sets
    shared = labels @ label_sets.T
    ranks = np.arange(gains.shape[1])
    best = np.zeros_like(gains)
    # Gains are small whole numbers: rank r of the best order has gain >= g if more than r images have.
    for gain in range(1, int(labels.sum(1).max(initial=0)) + 1):
        best += ((shared >= gain) @ counts)[:, None] > ranks
    return best, best[:, 0] > 0


def _label_sets(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct label sets `(sets, labels)` float32 and how many images have each: far fewer than images."""
    packed = np.ascontiguousarray(np.packbits(labels, axis=1))
    keys = packed.view([("", packed.dtype, packed.shape[1])]).ravel()
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return labels[first].astype(np.float32), counts.astype(np.float64)


def _blocks(queries: np.ndarray, found: np.ndarray, sets: tuple[np.ndarray, np.ndarray] | None) -> Iterator[slice]:
    values = max(found.shape[1] * queries.shape[1], 0 if sets is None else len(sets[0]), 1)
    step = max(1, _BLOCK // values)
    return (slice(begin, begin + step) for begin in range(0, len(queries), step))


def check_depths(at: Sequence[int]) -> None:
    """Refuses depths that are no whole numbers from 1."""
    wrong = [r for r in at if int(r) != r or r < 1]
    if wrong or not len(at):
        raise UserError(f"R is {wrong[0] if wrong else 'empty'}; it must be whole numbers from 1")


def _depths(at: Sequence[int], depth: int) -> np.ndarray:
    check_depths(at)
    if max(at) > depth:
        raise UserError(
            f"measures at R = {max(at)} need {max(at)} retrieved images a query, there are {depth}; "
            "lower R, or search a larger archive"
        )
    return np.sort(np.asarray(at, dtype=np.int64))


def _binary(values: ArrayLike, name: str, dimensions: int) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != dimensions or 0 in array.shape:
        shape = "(queries, depth, labels)" if dimensions == 3 else "(images, labels)"
        raise UserError(f"{name} must have shape {shape} with at least one image and label, found {array.shape}")
    present = array == 1
    if not (present | (array == 0)).all():
        raise UserError(f"{name} must be 0 or 1, found {array[~(present | (array == 0))][0]}")
    return present


def _check_rows(rows: np.ndarray, archive: np.ndarray | None) -> None:
    if archive is None:
        raise UserError("rows of an archive were retrieved, but not its labels given; give archive_labels")
    if rows.dtype.kind not in "iu":
        raise UserError(f"retrieved rows must be whole numbers, found type {rows.dtype}")
    if rows.size and (rows.min() < 0 or rows.max() >= len(archive)):
        strange = int(rows.min()) if rows.min() < 0 else int(rows.max())
        raise UserError(f"row {strange} was retrieved, but the archive has the rows 0 to {len(archive) - 1}")
