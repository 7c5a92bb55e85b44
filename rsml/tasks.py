"""One row a task: all that differs between multi-label data, single-label data and shares of classes.

The rows are data: what is computed is named by import path and looked up when it is first needed, so that this file
stays light and every room may read it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rsml.utils.errors import UserError

Task = Literal["multi-label", "single-label", "proportions"]


@dataclass(frozen=True)
class TaskRow:
    """One task.

    Attributes:
        name: As configs, files and models say it.
        activation: Of the logits: "sigmoid" or "softmax".
        thresholds: A label is present when its score passes its threshold; else the largest score decides.
        one_class: Exactly one label of an image is true.
        shares: Labels are shares that sum to one.
        noun: What its labels are called.
        headline: The metrics that its papers lead with, shown while training.
        monitor: The validation metric that chooses the best epoch, and that the bootstrap chart shows.
        with_interval: Metrics of each label that get an interval.
        titles: Rows of the headline table: title and metric.
        averages: Rows of its second table: title, and the metrics for F1, F2, precision and recall.
        unit: Head of the column of values.
        figures: Pictures of a run, by their names in `rsml.figures.run`.
        least_share: A share below this is not named among an image's labels.
        part: Import path of what each image contributes to the metrics.
        definitions: Import path of the metrics by name, functions of such a part under weights.
        metrics: Import path of the function that gives all metrics.
    """

    name: Task
    activation: Literal["sigmoid", "softmax"]
    headline: tuple[str, ...]
    monitor: str
    with_interval: tuple[str, ...]
    titles: tuple[tuple[str, str], ...]
    figures: tuple[str, ...]
    part: str
    definitions: str
    metrics: str
    thresholds: bool = False
    one_class: bool = False
    shares: bool = False
    noun: str = "classes"
    averages: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    unit: str = "%"
    least_share: float = 0.0

    def load(self, field: str) -> Any:
        """What an import path of this row names."""
        module, _, name = getattr(self, field).partition(":")
        return getattr(importlib.import_module(module), name)

    def measure(self, labels: Any, scores: Any, thresholds: Any = 0.5) -> dict[str, Any]:
        """All metrics, those of each label included.

        Args:
            labels: `(images, labels)`, or class numbers.
            scores: `(images, labels)`.
            thresholds: One, or one a label, where this task has thresholds.
        """
        metrics: Callable[..., dict[str, Any]] = self.load("metrics")
        return metrics(labels, scores, thresholds) if self.thresholds else metrics(labels, scores)

    def decide(self, scores: np.ndarray, thresholds: Any = 0.5) -> np.ndarray:
        """0/1 decisions of scores `(..., labels)`: what passes its threshold, or the one largest.

        Examples:
            >>> task("multi-label").decide(np.array([0.2, 0.7, 0.6])).tolist()
            [0, 1, 1]
            >>> task("single-label").decide(np.array([0.2, 0.7, 0.6])).tolist()
            [0, 1, 0]
        """
        if self.thresholds:
            return (scores > thresholds).astype(np.uint8)
        return (np.arange(scores.shape[-1]) == scores.argmax(axis=-1)[..., None]).astype(np.uint8)

    def named(self, scores: np.ndarray, thresholds: Any = 0.5) -> np.ndarray:
        """Which labels are named for an image: those decided; of shares all that are worth a word."""
        return scores >= self.least_share if self.shares else self.decide(scores, thresholds) > 0

    def cross_entropy(self, labels: np.ndarray, scores: np.ndarray) -> float:
        """Mean cross entropy of probabilities in nats: over all decisions of sigmoids, over images of a softmax."""
        sure = np.clip(np.asarray(scores, np.float64), 1e-7, 1 - 1e-7)
        if self.activation == "sigmoid":
            return float(-np.mean(np.where(labels > 0, np.log(sure), np.log1p(-sure))))
        return float(-np.mean(np.sum(labels * np.log(sure), axis=1)))


_OF_EACH_LABEL = ("per_label_precision", "per_label_recall", "per_label_f1", "per_label_ap")

TASKS: dict[str, TaskRow] = {
    row.name: row
    for row in (
        TaskRow(
            name="multi-label",
            activation="sigmoid",
            thresholds=True,
            noun="labels",
            headline=("example_f1", "map_over_seen_labels", "micro_f1"),
            monitor="example_f1",
            with_interval=_OF_EACH_LABEL,
            titles=(
                ("mAP", "map_over_seen_labels"),
                ("subset accuracy", "subset_accuracy"),
                ("Hamming loss", "hamming_loss"),
                ("ranking loss", "ranking_loss"),
                ("one-error", "one_error"),
                ("label ranking average precision", "label_ranking_average_precision"),
                ("coverage (labels)", "coverage_error"),
            ),
            averages=(
                (
                    "images, F of means",
                    ("example_f1", "example_f2", "example_precision", "example_recall"),
                ),
                ("labels, F of means", ("label_f1", "label_f2", "label_precision", "label_recall")),
                ("all at once (micro)", ("micro_f1", "micro_f2", "micro_precision", "micro_recall")),
                ("each image (samples)", ("samples_f1", "samples_f2", None, None)),
                ("each label (macro)", ("macro_f1", "macro_f2", None, None)),
            ),
            unit="value",
            figures=("label_graph", "per_label_f1", "precision_recall", "panel", "confident_mistakes"),
            part="rsml.evaluation.metrics:MultilabelPart",
            definitions="rsml.evaluation.metrics:MULTILABEL",
            metrics="rsml.evaluation.metrics:multilabel_metrics",
        ),
        TaskRow(
            name="single-label",
            activation="softmax",
            one_class=True,
            headline=("accuracy", "macro_f1"),
            monitor="accuracy",
            with_interval=_OF_EACH_LABEL,
            titles=(
                ("accuracy", "accuracy"),
                ("balanced accuracy", "balanced_accuracy"),
                ("kappa", "kappa"),
                ("macro F1", "macro_f1"),
                ("macro precision", "macro_precision"),
                ("macro recall", "macro_recall"),
                ("weighted F1", "weighted_f1"),
                ("top-5 accuracy", "top_5_accuracy"),
                ("mAP", "map_over_seen_labels"),
            ),
            figures=("confusion_matrix", "confident_mistakes"),
            part="rsml.evaluation.metrics:SinglelabelPart",
            definitions="rsml.evaluation.metrics:SINGLELABEL",
            metrics="rsml.evaluation.metrics:singlelabel_metrics",
        ),
        TaskRow(
            name="proportions",
            activation="softmax",
            shares=True,
            headline=("dominant_accuracy", "kl_divergence"),
            monitor="dominant_accuracy",
            with_interval=("per_label_absolute_error",),
            titles=(
                ("KL divergence (nats)", "kl_divergence"),
                ("dominant-class accuracy", "dominant_accuracy"),
                ("overlap of shares", "overlap"),
                ("mean absolute error", "mean_absolute_error"),
            ),
            unit="% or nats",
            figures=("dominant_classes", "shares"),
            least_share=0.005,
            part="rsml.evaluation.proportions:ProportionsPart",
            definitions="rsml.evaluation.proportions:PROPORTIONS",
            metrics="rsml.evaluation.proportions:proportions_metrics",
        ),
    )
}


def task(name: str) -> TaskRow:
    """The row of a task; refuses one that there is not.

    Examples:
        >>> task("single-label").monitor
        'accuracy'
    """
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}: choose {', '.join(TASKS)}")
    return TASKS[name]
