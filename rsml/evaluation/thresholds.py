"""Decision thresholds tuned on the validation part, one for each label; never on the test part."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from rsml.evaluation.arithmetic import ratio
from rsml.evaluation.checks import EvaluationError, check_multilabel

DEFAULT = 0.5
_BETA = {"f1": 1, "f2": 2}


def _cuts(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every way to cut descending scores without parting equal ones.

    Returns:
        How many scores each cut keeps, and the half-open interval [low, high) of thresholds that make this cut under
        the rule "score > threshold". The last cut keeps all scores, so its low is minus infinity.
    """
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    return ends + 1, np.append(scores[ends[:-1] + 1], -np.inf).astype(np.float64), scores[ends].astype(np.float64)


def _choose(quality: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The threshold of the best cut: 0.5 itself when its cut is among the best, else the best gap's midpoint.

    Among equally good cuts the one nearest to 0.5 is taken.
    """
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    low, high = low[best], high[best]
    if ((low <= DEFAULT) & (high > DEFAULT)).any():
        return DEFAULT
    floor = np.where(np.isneginf(low), np.minimum(high - 1e-6, high / 2), low)
    middle = floor + (high - floor) / 2
    middle = np.where((middle >= floor) & (middle < high), middle, floor)
    return float(middle[np.argmin(np.abs(middle - DEFAULT))])


def tune_thresholds(
    labels: ArrayLike,
    scores: ArrayLike,
    objective: Literal["f1", "f2"] = "f1",
    *,
    minimum_support: int = 3,
    shrinkage: float = 5.0,
) -> np.ndarray:
    """The threshold of each label that maximises its own F on the given (validation) images.

    The search is exact over the midpoints between neighbouring distinct scores. A label with fewer than
    `minimum_support` images that have it, or that lack it, keeps 0.5; so does one for which 0.5 is among the best. The
    optimum t of a label with n positives or negatives, whichever are fewer, is drawn towards 0.5:
    `0.5 + (t - 0.5) * n / (n + shrinkage)`, because the optimum of a handful of images is mostly chance. What is not
    better than 0.5 on these images after that leaves 0.5 in place.

    Args:
        labels: 0 or 1, `(images, labels)`.
        scores: probabilities `(images, labels)`.
        objective: which F.
        minimum_support: fewer examples than this tune nothing.
        shrinkage: 0 takes each optimum as it is.

    Returns:
        `(labels,)` float64, to be passed as `threshold` of `multilabel_metrics`.
    """
    beta = _beta(objective)
    if minimum_support < 1 or shrinkage < 0:
        raise EvaluationError(
            f"minimum_support must be at least 1 and shrinkage at least 0, found {minimum_support} and {shrinkage}"
        )
    truth, values = check_multilabel(labels, scores)
    thresholds = np.full(truth.shape[1], DEFAULT)
    for label, support in enumerate(truth.sum(0)):
        examples = min(support, len(truth) - support)
        if examples < minimum_support:
            continue
        order = np.argsort(values[:, label])[::-1]
        kept, low, high = _cuts(values[order, label])
        hits = np.cumsum(truth[order, label])[kept - 1]
        best = _choose(ratio((1 + beta**2) * hits, kept + beta**2 * support), low, high)
        drawn = DEFAULT + (best - DEFAULT) * examples / (examples + shrinkage)
        decided = values[:, label, None] > np.array([DEFAULT, drawn])
        at_default, at_drawn = ratio(
            (1 + beta**2) * (decided & truth[:, label, None]).sum(0), decided.sum(0) + beta**2 * support
        )
        if at_drawn > at_default:
            thresholds[label] = drawn
    return thresholds


def _beta(objective: str) -> int:
    if objective not in _BETA:
        raise EvaluationError(f"unknown objective {objective!r}: choose f1 or f2")
    return _BETA[objective]
