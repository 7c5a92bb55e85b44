"""What depends on the order of the scores alone: average precision, ranking loss, coverage, one-error."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def average_precision(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Average precision of every label, for one or many weightings of the images.

    Equal to `sklearn.metrics.average_precision_score` (images with tied scores enter together), which would sort anew
    for every resample of a bootstrap and warns instead of leaving out a label that never occurs.

    Args:
        labels: boolean `(images, labels)`.
        scores: `(images, labels)`.
        weights: how often each image counts, `(resamples, images)`; once when None.

    Returns:
        `(resamples, labels)`, or `(labels,)` without weights; NaN where a label never occurs.
    """
    images, width = labels.shape
    counts = np.ones((images, 1)) if weights is None else np.ascontiguousarray(weights.T, dtype=np.float64)
    result = np.full((counts.shape[1], width), np.nan)
    for label in range(width):
        if not labels[:, label].any():
            continue
        order = np.argsort(scores[:, label])[::-1]
        values, positive = scores[order, label], labels[order, label]
        ends = np.flatnonzero(np.append(values[1:] != values[:-1], True))
        rows = np.flatnonzero(positive)
        group = ends[np.searchsorted(ends, rows)]
        weight = counts[order]
        seen = np.cumsum(weight, axis=0)[group]
        own = weight[rows]
        # Hits up to the end of each tie group, read off at the last positive inside that group.
        hits = np.cumsum(own, axis=0)
        hits_at_end = hits[np.searchsorted(rows, group, side="right") - 1]
        precision = np.divide(hits_at_end, seen, out=np.zeros_like(seen), where=seen > 0)
        total = hits[-1]
        result[:, label] = np.divide((own * precision).sum(0), total, out=np.full_like(total, np.nan), where=total > 0)
    return result[0] if weights is None else result


class RankingMeasures(NamedTuple):
    """One number an image, each `(images,)`."""

    ranking_loss: np.ndarray
    coverage: np.ndarray
    one_error: np.ndarray
    label_ranking_average_precision: np.ndarray


def ranking_measures(labels: np.ndarray, scores: np.ndarray) -> RankingMeasures:
    """How well each image's labels are ranked above the labels that it lacks, as scikit-learn defines it.

    scikit-learn returns means only and loops over the images in Python; here the loop is over labels.

    An image with no label, or with all of them, has ranking loss 0 and precision 1; coverage and one-error of an
    image with no label are 0. Ties count against the ranking.

    Args:
        labels: boolean `(images, labels)`.
        scores: `(images, labels)`.
    """
    images, width = labels.shape
    present = labels.sum(1)
    wrong_pairs, precision, coverage = np.zeros(images), np.zeros(images), np.zeros(images)
    for label in range(width):
        rows = np.flatnonzero(labels[:, label])
        above = scores[rows] >= scores[rows, label, None]
        rank = above.sum(1)
        relevant = (above & labels[rows]).sum(1)
        wrong_pairs[rows] += rank - relevant
        precision[rows] += relevant / np.maximum(rank, 1)
        coverage[rows] = np.maximum(coverage[rows], rank)
    pairs = present * (width - present)
    trivial = pairs == 0
    return RankingMeasures(
        ranking_loss=np.where(trivial, 0.0, wrong_pairs / np.maximum(pairs, 1)),
        coverage=coverage,
        one_error=((present > 0) & ~labels[np.arange(images), scores.argmax(1)]).astype(float),
        label_ranking_average_precision=np.where(trivial, 1.0, precision / np.maximum(present, 1)),
    )
