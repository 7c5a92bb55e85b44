"""The scalar metrics of a task, as training watches them epoch by epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsml.evaluation.metrics import multilabel_metrics, singlelabel_metrics
from rsml.evaluation.proportions import proportions_metrics

HEADLINE = {
    "multi-label": ("example_f1", "map_over_seen_labels", "micro_f1"),
    "single-label": ("accuracy", "macro_f1"),
    "proportions": ("dominant_accuracy", "kl_divergence"),
}
"""The metrics a task's papers lead with, shown while training."""

NOT_PERCENT = {"coverage_error", "kl_divergence", "cross_entropy"}
"""Metrics counted in labels or nats, which are no share of anything."""

LOWER_IS_BETTER = {
    "hamming_loss",
    "ranking_loss",
    "one_error",
    "coverage_error",
    "cross_entropy",
    "kl_divergence",
    "mean_absolute_error",
}
"""Metrics that count what is wrong."""


def scale_of(metric: str) -> int:
    """What a metric is multiplied by to be shown: 100 for shares."""
    return 1 if metric in NOT_PERCENT else 100


def measure(
    labels: np.ndarray, scores: np.ndarray, task: str, thresholds: float | np.ndarray = 0.5
) -> dict[str, float]:
    """Returns every scalar metric of a task, and the cross entropy of its probabilities.

    Args:
        labels: `(images, labels)` 0/1, or shares.
        scores: `(images, labels)` probabilities, or shares.
        task: "multi-label", "single-label" or "proportions".
        thresholds: For multi-label, one for all or one a label.
    """
    metrics = task_metrics(labels, scores, task, thresholds)
    scalars = {
        name: float(value) for name, value in metrics.items() if np.ndim(value) == 0 and not name.startswith("r4c_code")
    }
    return {**scalars, "cross_entropy": _cross_entropy(labels, scores, task)}


def task_metrics(
    labels: np.ndarray, scores: np.ndarray, task: str, thresholds: float | np.ndarray = 0.5
) -> dict[str, Any]:
    """Returns all metrics of a task, those of each label included; arguments as for `measure`."""
    if task == "multi-label":
        return multilabel_metrics(labels, scores, thresholds)
    return {"single-label": singlelabel_metrics, "proportions": proportions_metrics}[task](labels, scores)


def _cross_entropy(labels: np.ndarray, scores: np.ndarray, task: str) -> float:
    sure = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    if task == "multi-label":
        return float(-np.mean(np.where(labels > 0, np.log(sure), np.log1p(-sure))))
    return float(-np.mean(np.sum(labels * np.log(sure), axis=1)))
