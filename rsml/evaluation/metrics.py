"""Every number that a classifier is judged by, each defined once and exact over the whole part.

A metric is written as a function of an evaluation part in which every image has a weight. Weight one everywhere gives
the metric itself; the weights of a resample give the metric of that resample, which is how the bootstrap avoids
computing anything twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rsml.evaluation.arithmetic import collect, f_score, nan_mean, ratio
from rsml.evaluation.checks import check_multilabel, check_singlelabel, check_threshold
from rsml.evaluation.r4c_code import R4C_CODE
from rsml.evaluation.ranking import RankingMeasures, average_precision, ranking_measures


class MultilabelPart:
    """What each image of a multi-label part contributes, computed once and only when asked for."""

    def __init__(self, labels: ArrayLike, scores: ArrayLike, threshold: ArrayLike = 0.5) -> None:
        self.labels, self.scores = check_multilabel(labels, scores)
        # A float64 array, so that float32 scores are compared exactly and not with a rounded threshold.
        self.decisions = self.scores > check_threshold(threshold, self.scores.shape[1])
        self.hits = self.labels & self.decisions
        self.present = self.labels
        self.size = len(self.labels)

    @cached_property
    def precision(self) -> np.ndarray:
        """Each image's TP/(TP+FP), `(images,)`."""
        return ratio(self.hits.sum(1), self.decisions.sum(1))

    @cached_property
    def recall(self) -> np.ndarray:
        """Each image's TP/(TP+FN), `(images,)`."""
        return ratio(self.hits.sum(1), self.labels.sum(1))

    @cached_property
    def ranking(self) -> RankingMeasures:
        """Each image's ranking measures."""
        return ranking_measures(self.labels, self.scores)

    def view(self, weights: np.ndarray) -> MultilabelView:
        """This part under weights `(resamples, images)`."""
        return MultilabelView(self, weights)


class MultilabelView:
    """A multi-label part under weights `(resamples, images)`."""

    def __init__(self, part: MultilabelPart, weights: np.ndarray) -> None:
        self.part = part
        self.weights = weights

    def mean(self, per_image: np.ndarray) -> np.ndarray:
        """Weighted mean of `(images,)`: `(resamples,)`."""
        return self.weights @ per_image.astype(np.float64) / self.weights.sum(1)

    def per_label(self, per_image: np.ndarray) -> np.ndarray:
        """Weighted count of a boolean `(images, labels)`: `(resamples, labels)`."""
        return self.weights @ per_image.astype(np.float64)

    def example_f(self, beta: float) -> np.ndarray:
        """F of the mean precision and the mean recall of images."""
        return f_score(self.mean(self.part.precision), self.mean(self.part.recall), beta)

    @cached_property
    def hits(self) -> np.ndarray:
        """True positives, `(resamples, labels)`."""
        return self.per_label(self.part.hits)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Images predicted to have the label, `(resamples, labels)`."""
        return self.per_label(self.part.decisions)

    @cached_property
    def support(self) -> np.ndarray:
        """Images that have the label, `(resamples, labels)`."""
        return self.per_label(self.part.labels)

    @cached_property
    def precision(self) -> np.ndarray:
        """Of each label, `(resamples, labels)`."""
        return ratio(self.hits, self.predicted)

    @cached_property
    def recall(self) -> np.ndarray:
        """Of each label, `(resamples, labels)`."""
        return ratio(self.hits, self.support)

    def label_f(self, beta: float) -> np.ndarray:
        """F of the mean precision and the mean recall of labels."""
        return f_score(self.precision.mean(1), self.recall.mean(1), beta)

    @cached_property
    def micro_precision(self) -> np.ndarray:
        """Over all image-label pairs, `(resamples,)`."""
        return ratio(self.hits.sum(1), self.predicted.sum(1))

    @cached_property
    def micro_recall(self) -> np.ndarray:
        """Over all image-label pairs, `(resamples,)`."""
        return ratio(self.hits.sum(1), self.support.sum(1))

    @cached_property
    def average_precision(self) -> np.ndarray:
        """Of each label, NaN where it never occurs, `(resamples, labels)`."""
        return average_precision(self.part.labels, self.part.scores, self.weights)


MULTILABEL: dict[str, Callable[[MultilabelView], np.ndarray]] = {
    "map_over_seen_labels": lambda v: nan_mean(v.average_precision),
    "mean_average_precision": lambda v: nan_mean(v.average_precision),
    "example_precision": lambda v: v.mean(v.part.precision),
    "example_recall": lambda v: v.mean(v.part.recall),
    "example_f1": lambda v: v.example_f(1),
    "example_f2": lambda v: v.example_f(2),
    "label_precision": lambda v: v.precision.mean(1),
    "label_recall": lambda v: v.recall.mean(1),
    "label_f1": lambda v: v.label_f(1),
    "label_f2": lambda v: v.label_f(2),
    "samples_f1": lambda v: v.mean(f_score(v.part.precision, v.part.recall, 1)),
    "samples_f2": lambda v: v.mean(f_score(v.part.precision, v.part.recall, 2)),
    "micro_precision": lambda v: v.micro_precision,
    "micro_recall": lambda v: v.micro_recall,
    "micro_f1": lambda v: f_score(v.micro_precision, v.micro_recall, 1),
    "micro_f2": lambda v: f_score(v.micro_precision, v.micro_recall, 2),
    "macro_f1": lambda v: f_score(v.precision, v.recall, 1).mean(1),
    "macro_f2": lambda v: f_score(v.precision, v.recall, 2).mean(1),
    "hamming_loss": lambda v: v.mean((v.part.labels != v.part.decisions).mean(1)),
    "subset_accuracy": lambda v: v.mean((v.part.labels == v.part.decisions).all(1)),
    "ranking_loss": lambda v: v.mean(v.part.ranking.ranking_loss),
    "coverage_error": lambda v: v.mean(v.part.ranking.coverage),
    "one_error": lambda v: v.mean(v.part.ranking.one_error),
    "label_ranking_average_precision": lambda v: v.mean(v.part.ranking.label_ranking_average_precision),
    "per_label_support": lambda v: v.support,
    "per_label_predicted": lambda v: v.predicted,
    "per_label_precision": lambda v: v.precision,
    "per_label_recall": lambda v: v.recall,
    "per_label_f1": lambda v: f_score(v.precision, v.recall, 1),
    "per_label_f2": lambda v: f_score(v.precision, v.recall, 2),
    "per_label_ap": lambda v: v.average_precision,
    **R4C_CODE,
}


class SinglelabelPart:
    """What each image of a single-label part contributes."""

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        self.classes, self.scores = check_singlelabel(labels, scores)
        self.predicted = self.scores.argmax(1)
        self.size, self.width = self.scores.shape
        self.present = self.classes[:, None] == np.arange(self.width)

    @cached_property
    def rank(self) -> np.ndarray:
        """Place of the true class, 0 for the predicted one; among equal scores the lower class number comes first."""
        own = self.scores[np.arange(self.size), self.classes][:, None]
        before = np.arange(self.width) < self.classes[:, None]
        return ((self.scores > own) | ((self.scores == own) & before)).sum(1)

    def view(self, weights: np.ndarray) -> SinglelabelView:
        """This part under weights `(resamples, images)`."""
        return SinglelabelView(self, weights)


class SinglelabelView:
    """A single-label part under weights `(resamples, images)`: all but top-5 and mAP follows from the confusion."""

    def __init__(self, part: SinglelabelPart, weights: np.ndarray) -> None:
        self.part = part
        self.weights = weights

    @cached_property
    def confusion(self) -> np.ndarray:
        """Images of class i called j, `(resamples, classes, classes)`."""
        width = self.part.width
        cells = self.part.classes * width + self.part.predicted
        counts = [np.bincount(cells, weights=row, minlength=width**2) for row in self.weights]
        return np.stack(counts).reshape(-1, width, width)

    @cached_property
    def hits(self) -> np.ndarray:
        """Images whose class is right, `(resamples, classes)`."""
        return np.diagonal(self.confusion, axis1=1, axis2=2)

    @cached_property
    def support(self) -> np.ndarray:
        """Images of the class, `(resamples, classes)`."""
        return self.confusion.sum(2)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Images called so, `(resamples, classes)`."""
        return self.confusion.sum(1)

    @cached_property
    def precision(self) -> np.ndarray:
        """Of each class, `(resamples, classes)`."""
        return ratio(self.hits, self.predicted)

    @cached_property
    def recall(self) -> np.ndarray:
        """Of each class, `(resamples, classes)`."""
        return ratio(self.hits, self.support)

    @cached_property
    def accuracy(self) -> np.ndarray:
        """Share of images whose class is right, `(resamples,)`."""
        return self.hits.sum(1) / self.weights.sum(1)

    @cached_property
    def kappa(self) -> np.ndarray:
        """Cohen's kappa; NaN, as in scikit-learn, where chance alone would agree always."""
        chance = (self.support * self.predicted).sum(1) / self.weights.sum(1) ** 2
        return np.divide(self.accuracy - chance, 1 - chance, out=np.full_like(chance, np.nan), where=chance < 1)

    @cached_property
    def average_precision(self) -> np.ndarray:
        """Of each class against the rest, `(resamples, classes)`."""
        return average_precision(self.part.present, self.part.scores, self.weights)


SINGLELABEL: dict[str, Callable[[SinglelabelView], np.ndarray]] = {
    "accuracy": lambda v: v.accuracy,
    "balanced_accuracy": lambda v: nan_mean(np.where(v.support > 0, v.recall, np.nan)),
    "kappa": lambda v: v.kappa,
    "macro_f1": lambda v: f_score(v.precision, v.recall, 1).mean(1),
    "macro_precision": lambda v: v.precision.mean(1),
    "macro_recall": lambda v: v.recall.mean(1),
    "weighted_f1": lambda v: ratio((f_score(v.precision, v.recall, 1) * v.support).sum(1), v.support.sum(1)),
    "top_5_accuracy": lambda v: v.weights @ (v.part.rank < 5) / v.weights.sum(1),
    "map_over_seen_labels": lambda v: nan_mean(v.average_precision),
    "mean_average_precision": lambda v: nan_mean(v.average_precision),
    "confusion_matrix": lambda v: v.confusion,
    "per_label_support": lambda v: v.support,
    "per_label_predicted": lambda v: v.predicted,
    "per_label_precision": lambda v: v.precision,
    "per_label_recall": lambda v: v.recall,
    "per_label_f1": lambda v: f_score(v.precision, v.recall, 1),
    "per_label_ap": lambda v: v.average_precision,
}


def multilabel_metrics(labels: ArrayLike, scores: ArrayLike, threshold: ArrayLike = 0.5) -> dict[str, Any]:
    """All multi-label metrics of a part; a label is predicted when its score is strictly greater than the threshold.

    Where a denominator is 0 (an image predicted empty, an image or label without positives) the quotient is 0.

    | name | meaning |
    |---|---|
    | `example_precision`, `example_recall` | mean over images of TP/(TP+FP), TP/(TP+FN) |
    | `example_f1`, `example_f2` | F of those two means (the SIGNA and GRN papers' tables) |
    | `label_*` | the same over labels instead of images (elsewhere CP, CR, CF1) |
    | `samples_f1`, `samples_f2` | mean of each image's own F (scikit-learn's `average="samples"`) |
    | `micro_*` | over all image-label pairs at once (elsewhere OP, OR, OF1) |
    | `macro_f1`, `macro_f2` | mean of each label's own F; labels that never occur count as 0 |
    | `map_over_seen_labels`, `mean_average_precision` | mAP: mean of `per_label_ap` over the labels that occur |
    | `hamming_loss`, `subset_accuracy` | share of wrong decisions; share of images without one |
    | `ranking_loss`, `coverage_error`, `one_error`, `label_ranking_average_precision` | see `ranking_measures` |
    | `per_label_*` | arrays `(labels,)`: precision, recall, f1, f2, ap, support, predicted |
    | `r4c_code_*` | what the R4C authors' code prints: its F is `samples_*`; ratios rounded to single precision |

    Args:
        labels: 0 or 1, `(images, labels)`.
        scores: any real numbers, `(images, labels)`.
        threshold: one number, or one for each label.

    Returns:
        Floats by name, and arrays for the names that begin with `per_label_`; `per_label_ap` is NaN for a label that
        never occurs.
    """
    return collect(MultilabelPart(labels, scores, threshold), MULTILABEL, MULTILABEL)


def singlelabel_metrics(labels: ArrayLike, scores: ArrayLike) -> dict[str, Any]:
    """All single-label metrics of a part; the class of the highest score is predicted (the first among equals).

    Means over classes (`macro_*`) are over all classes, with 0 for one that never occurs; `balanced_accuracy` and
    `map_over_seen_labels` (also named `mean_average_precision`) are over those that occur. `confusion_matrix[i, j]`
    counts images of class i called j.

    Args:
        labels: class numbers `(images,)` or one-hot rows `(images, classes)`.
        scores: `(images, classes)`, probabilities or logits.

    Returns:
        `accuracy`, `balanced_accuracy`, `kappa`, `macro_f1`, `macro_precision`, `macro_recall`, `weighted_f1`,
        `top_5_accuracy` (with more than 5 classes), `map_over_seen_labels` and `mean_average_precision` (one class
        against the rest), `confusion_matrix`, and `per_label_*` arrays `(classes,)`: support, predicted, precision,
        recall, f1, ap.
    """
    part = SinglelabelPart(labels, scores)
    names = [name for name in SINGLELABEL if name != "top_5_accuracy" or part.width > 5]
    return collect(part, SINGLELABEL, names)
