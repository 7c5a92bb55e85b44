"""Every number that predicted shares of classes are judged by, each defined once and exact over the whole part.

As in `metrics`, a number is a function of the weights of the images, so that the bootstrap computes nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rsml.evaluation.arithmetic import collect
from rsml.evaluation.checks import EvaluationError, check_scores

_LEAST = 1e-7
"""Predicted shares below this count as this, so that a zero costs much and not infinitely much."""


class ProportionsPart:
    """What each image of a part with shares contributes.

    Args:
        labels: True shares `(images, classes)`.
        scores: Predicted shares `(images, classes)`.
    """

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        self.scores = check_scores(scores).astype(np.float64)
        self.labels = np.asarray(labels, dtype=np.float64)
        if self.labels.shape != self.scores.shape:
            raise EvaluationError(
                f"shares of shape {self.labels.shape} do not fit scores of shape {self.scores.shape}: both must be "
                "(images, classes)"
            )
        sums = self.labels.sum(axis=1)
        wrong = ~((self.labels >= 0).all(axis=1) & (np.abs(sums - 1) < 0.01))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise EvaluationError(f"shares must be 0 or more and sum to 1, those of image {row} sum to {sums[row]:.4g}")
        self.size, self.width = self.scores.shape
        self.classes, self.predicted = self.labels.argmax(axis=1), self.scores.argmax(axis=1)

    @cached_property
    def present(self) -> np.ndarray:
        """The class that dominates each image, `(images, classes)`."""
        return self.one_hot(self.classes) > 0

    @cached_property
    def error(self) -> np.ndarray:
        """Absolute error of each share, `(images, classes)`."""
        return np.abs(self.labels - self.scores)

    @cached_property
    def divergence(self) -> np.ndarray:
        """KL divergence of the predicted from the true shares in nats, `(images,)`."""
        own = np.log(np.where(self.labels > 0, self.labels, 1))
        return (self.labels * (own - np.log(np.maximum(self.scores, _LEAST)))).sum(axis=1)

    def one_hot(self, classes: np.ndarray) -> np.ndarray:
        """`(images, classes)` 0/1 of class numbers."""
        return (classes[:, None] == np.arange(self.width)).astype(np.float64)

    def view(self, weights: np.ndarray) -> ProportionsView:
        """This part under weights `(resamples, images)`."""
        return ProportionsView(self, weights)


class ProportionsView:
    """A part with shares under weights `(resamples, images)`."""

    def __init__(self, part: ProportionsPart, weights: np.ndarray) -> None:
        self.part, self.weights = part, weights

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Weighted mean over images of `(images, ...)`: `(resamples, ...)`."""
        total = self.weights.sum(axis=1)
        return self.weights @ values / (total if values.ndim == 1 else total[:, None])

    def recall(self) -> np.ndarray:
        """Of the images that a class dominates, those for which it is predicted to; NaN where there are none."""
        part = self.part
        support = self.weights @ part.one_hot(part.classes)
        hits = self.weights @ (part.one_hot(part.classes) * part.one_hot(part.predicted))
        return np.divide(hits, support, out=np.full_like(hits, np.nan), where=support > 0)


PROPORTIONS: dict[str, Callable[[ProportionsView], np.ndarray]] = {
    "kl_divergence": lambda v: v.mean(v.part.divergence),
    "dominant_accuracy": lambda v: v.mean((v.part.classes == v.part.predicted).astype(np.float64)),
    "mean_absolute_error": lambda v: v.mean(v.part.error.mean(axis=1)),
    "overlap": lambda v: v.mean(np.minimum(v.part.labels, v.part.scores).sum(axis=1)),
    "per_label_support": lambda v: v.weights @ v.part.one_hot(v.part.classes),
    "per_label_share": lambda v: v.mean(v.part.labels),
    "per_label_predicted_share": lambda v: v.mean(v.part.scores),
    "per_label_absolute_error": lambda v: v.mean(v.part.error),
    "per_label_dominant_recall": lambda v: v.recall(),
}


def proportions_metrics(labels: ArrayLike, scores: ArrayLike) -> dict[str, Any]:
    """All metrics of predicted shares.

    | name | meaning |
    |---|---|
    | `kl_divergence` | mean over images of the sum of `q log(q / p)`, in nats |
    | `dominant_accuracy` | share of images whose greatest true share is the greatest predicted one |
    | `mean_absolute_error` | of a share, over images and classes |
    | `overlap` | mean over images of the sum of `min(q, p)`: the area on which both agree |
    | `per_label_support` | images that the class dominates |
    | `per_label_share`, `per_label_predicted_share` | mean true and predicted share |
    | `per_label_absolute_error`, `per_label_dominant_recall` | mean error; recall among images that it dominates |

    Args:
        labels: true shares `(images, classes)`, rows sum to 1.
        scores: predicted shares `(images, classes)`.

    Returns:
        Floats by name, and arrays for the names that begin with `per_label_`.
    """
    return collect(ProportionsPart(labels, scores), PROPORTIONS, PROPORTIONS)
