"""What all metrics share: quotients and means where a denominator may be 0, and one number a metric of a whole part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

_COUNTS = {"per_label_support", "per_label_predicted", "confusion_matrix"}


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient that is 0 where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def f_score(precision: np.ndarray, recall: np.ndarray, beta: float) -> np.ndarray:
    """F-beta of precision and recall, 0 where both are 0."""
    return ratio((1 + beta**2) * precision * recall, beta**2 * precision + recall)


def nan_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN, without a warning, where nothing is left."""
    seen = ~np.isnan(values)
    count = seen.sum(-1)
    total = np.where(seen, values, 0.0).sum(-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def collect(part: Any, definitions: Mapping[str, Callable[[Any], np.ndarray]], names: Iterable[str]) -> dict[str, Any]:
    """The named metrics of a part in which every image counts once; counts as whole numbers."""
    view = part.view(np.ones((1, part.size)))
    result: dict[str, Any] = {}
    for name in names:
        value = definitions[name](view)[0]
        if name in _COUNTS:
            value = value.astype(np.int64)
        result[name] = value if np.ndim(value) else float(value)
    return result
