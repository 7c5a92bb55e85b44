"""The scalar metrics of a task, as training follows them epoch by epoch, and how each is shown and compared."""

from __future__ import annotations

import numpy as np

from rsml.evaluation.r4c_code import R4C_CODE
from rsml.tasks import task

NOT_PERCENT = {"coverage_error", "kl_divergence", "cross_entropy", "loss", "objective"}
"""Metrics counted in labels or nats, which are no share of anything."""

LOWER_IS_BETTER = {
    "hamming_loss",
    "ranking_loss",
    "one_error",
    "coverage_error",
    "cross_entropy",
    "kl_divergence",
    "mean_absolute_error",
    "loss",
    "objective",
}
"""Metrics that count what is wrong."""


def scale_of(metric: str) -> int:
    """What a metric is multiplied by to be shown: 100 for shares."""
    return 1 if metric in NOT_PERCENT else 100


def scalar_metrics(
    labels: np.ndarray, scores: np.ndarray, task_name: str, thresholds: float | np.ndarray = 0.5
) -> dict[str, float]:
    """Returns every scalar metric of a task but one paper's variants, and the cross entropy of its probabilities.

    Args:
        labels: `(images, labels)` 0/1, or shares.
        scores: `(images, labels)` probabilities, or shares.
        task_name: "multi-label", "single-label" or "proportions".
        thresholds: For multi-label, one for all or one a label.

    Examples:
        >>> found = scalar_metrics(np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.1], [0.8, 0.2]]), "single-label")
        >>> found["accuracy"], round(found["cross_entropy"], 3)
        (0.5, 0.857)
    """
    row = task(task_name)
    metrics = row.measure(labels, scores, thresholds)
    scalars = {name: float(value) for name, value in metrics.items() if np.ndim(value) == 0 and name not in R4C_CODE}
    return {**scalars, "cross_entropy": row.cross_entropy(labels, scores)}
