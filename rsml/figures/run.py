"""The pictures of a run: what its data is like, how it learned, where it is right and wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rsml.data.images import picture
from rsml.data.samples import Samples
from rsml.evaluation import Interval
from rsml.figures import charts
from rsml.figures.panels import confident_mistakes, mistakes_sheet, score_panel
from rsml.graph import cooccurrence
from rsml.tasks import task
from rsml.utils.errors import UserError

logger = logging.getLogger(__name__)
PANEL, MISTAKES = 8, 24


@dataclass(frozen=True)
class Measured:
    """What the pictures of a measured part are drawn from.

    Attributes:
        samples: All images, divided.
        part: The part that was measured.
        scores: `(part, labels)` probabilities.
        thresholds: `(labels,)`.
        summary: What was measured on the part.
        graph_threshold: `Q` of the label graph.
        choices: Bands and values of the images, as `picture` takes them.
    """

    samples: Samples
    part: Samples
    scores: np.ndarray
    thresholds: np.ndarray
    summary: dict[str, Any]
    graph_threshold: float
    choices: Mapping[str, Any]


def draw_figures(
    folder: Path,
    *,
    samples: Samples,
    history: pd.DataFrame,
    graph_threshold: float,
    choices: Mapping[str, Any] | None = None,
    best_epoch: int | None = None,
    part: Samples | None = None,
    scores: np.ndarray | None = None,
    thresholds: np.ndarray | None = None,
    summary: dict[str, Any] | None = None,
    interval: Interval | None = None,
) -> None:
    """Draws what a run's task calls for into a folder; a picture that cannot be drawn is a line in the log.

    Args:
        folder: Where the pictures go.
        samples: All images, divided.
        history: One row an epoch.
        graph_threshold: `Q` of the label graph.
        choices: Bands and values of the images, as `picture` takes them.
        best_epoch: The epoch that was chosen.
        part: The part that was measured, if one was.
        scores: `(part, labels)` probabilities.
        thresholds: `(labels,)`.
        summary: What was measured on the part.
        interval: Of the task's first metric, to draw its resamples.
    """
    row = task(samples.task)
    drawn: dict[str, Callable[[], Figure | None]] = {
        "label_counts": lambda: charts.label_counts(samples.present, samples.splits, samples.label_names),
        "learning_curves": lambda: charts.learning_curves(history, best=best_epoch) if len(history) else None,
        "bootstrap": lambda: charts.bootstrap_chart(interval, row.monitor) if interval else None,
    }
    if part is not None and scores is not None and thresholds is not None and summary is not None:
        measured = Measured(samples, part, scores, thresholds, summary, graph_threshold, choices or {})
        drawn |= {name: partial(_FIGURES[name], measured) for name in row.figures}
    draw_all(folder, drawn)


def draw_all(folder: Path, drawn: Mapping[str, Callable[[], Figure | None]]) -> None:
    """Draws pictures by name into a folder; one that cannot be drawn is a line in the log.

    Args:
        folder: Where they go.
        drawn: Of each name what draws it, or returns None where there is nothing to draw.
    """
    for name, draw in drawn.items():
        # A training of a night must not end in the fault of a picture.
        try:
            figure = draw()
            if figure is not None:
                charts.save(figure, folder / f"{name}{_PHOTOGRAPHS.get(name, '.png')}")
        except Exception as error:
            reason = " ".join(str(error).split()) or "no reason given"
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            logger.warning("figure %s could not be drawn: %s%s", name, kind, reason)


def _confusion(run: Measured) -> Figure:
    counts = np.zeros((run.part.labels.shape[1],) * 2, dtype=int)
    np.add.at(counts, (run.part.classes, run.scores.argmax(axis=1)), 1)
    return charts.confusion_matrix(counts, run.part.label_names)


def _shares(run: Measured) -> Figure:
    return charts.shares(run.part.labels, run.scores, run.part.label_names)


def _label_graph(run: Measured) -> Figure | None:
    if len(run.samples.label_names) < 2:
        return None
    counts = cooccurrence(run.samples.part("train").labels)
    return charts.label_graph(counts, run.samples.label_names, run.graph_threshold)


def _per_label_f1(run: Measured) -> Figure:
    rows = run.summary["per_label"]
    f1 = [row["f1"] if row["f1"] is not None else np.nan for row in rows]
    edges = [row["edges"] for row in rows] if "edges" in rows[0] else None
    return charts.per_label_f1(f1, run.part.label_names, edge_counts=edges)


def _precision_recall(run: Measured) -> Figure:
    return charts.precision_recall(run.part.labels, run.scores, run.part.label_names, run.thresholds)


def _panel(run: Measured) -> Figure:
    chosen = np.linspace(0, len(run.part) - 1, min(PANEL, len(run.part))).astype(int)
    shown = run.part.select(chosen)
    return score_panel(
        _pictures(shown, run.choices), shown.labels, run.scores[chosen], run.part.label_names, run.thresholds
    )


def _mistakes(run: Measured) -> Figure | None:
    truth = run.part.classes if task(run.part.task).one_class else run.part.labels
    mistakes = confident_mistakes(truth, run.scores, MISTAKES, run.thresholds)
    if not mistakes:
        return None
    shown = run.part.select([mistake.image for mistake in mistakes])
    titles = [Path(file).name for file in shown.files]
    return mistakes_sheet(_pictures(shown, run.choices), mistakes, run.part.label_names, titles)


def _pictures(part: Samples, choices: Mapping[str, Any]) -> list[np.ndarray]:
    return [picture(file, **choices) for file in part.files]


_FIGURES: dict[str, Callable[[Measured], Figure | None]] = {
    "confident_mistakes": _mistakes,
    "confusion_matrix": _confusion,
    "dominant_classes": _confusion,
    "label_graph": _label_graph,
    "panel": _panel,
    "per_label_f1": _per_label_f1,
    "precision_recall": _precision_recall,
    "shares": _shares,
}
_PHOTOGRAPHS = {"confident_mistakes": ".jpg", "panel": ".jpg"}
"""Sheets of photographs, which as PNG would take some megabytes."""
