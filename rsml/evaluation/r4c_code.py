"""What the R4C authors' evaluation code prints: the field's metrics, with every ratio kept in single precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rsml.evaluation.arithmetic import f_score


def _single(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64)


def _single_mean(values: np.ndarray) -> np.ndarray:
    """Mean over labels, added up one after another in single precision, as that code does."""
    return np.cumsum(values.astype(np.float32), axis=1)[:, -1] / np.float64(values.shape[1])


def _example_f(view: Any, beta: float) -> np.ndarray:
    return view.mean(f_score(_single(view.part.precision), _single(view.part.recall), beta))


R4C_CODE: dict[str, Callable[[Any], np.ndarray]] = {
    "r4c_code_precision_example": lambda v: v.mean(_single(v.part.precision)),
    "r4c_code_recall_example": lambda v: v.mean(_single(v.part.recall)),
    "r4c_code_f1": lambda v: _example_f(v, 1),
    "r4c_code_f2": lambda v: _example_f(v, 2),
    "r4c_code_precision_label": lambda v: _single_mean(v.precision),
    "r4c_code_recall_label": lambda v: _single_mean(v.recall),
}
"""By name, each a function of a multi-label part under weights."""
