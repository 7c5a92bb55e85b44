"""The pictures of a run: what its data is like, how it learned, where it is right and wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rsml.data.images import decode
from rsml.data.samples import Samples
from rsml.evaluation import bootstrap_interval
from rsml.figures import charts as figures
from rsml.graph import cooccurrence

PANEL, MISTAKES = 8, 24
_BOOTSTRAPPED = {"multi-label": "example_f1", "single-label": "accuracy", "proportions": "dominant_accuracy"}


def draw_figures(
    folder: Path,
    *,
    samples: Samples,
    part: Samples,
    scores: np.ndarray,
    thresholds: np.ndarray,
    summary: dict[str, Any],
    history: pd.DataFrame,
    graph_threshold: float,
    resamples: int,
) -> None:
    """Draws what a run's task calls for into a folder.

    Args:
        folder: Where the pictures go.
        samples: All images, divided.
        part: The part that was measured.
        scores: `(part, labels)` probabilities.
        thresholds: `(labels,)`.
        summary: What was measured on the part.
        history: One row an epoch.
        graph_threshold: `Q` of the label graph.
        resamples: Of the bootstrap chart; 0 leaves it out.
    """
    if part.task == "multi-label":
        drawn = _multilabel(samples, part, scores, thresholds, summary, graph_threshold)
    elif part.task == "proportions":
        drawn = _proportions(part, scores)
    else:
        drawn = _singlelabel(part, scores, thresholds)
    for name, figure in drawn:
        figures.save(figure, folder / f"{name}.png")
    counts = figures.label_counts(samples.present, samples.splits, samples.label_names)
    figures.save(counts, folder / "label_counts.png")
    if len(history):
        figures.save(figures.learning_curves(history), folder / "learning_curves.png")
    if resamples:
        metric = _BOOTSTRAPPED[part.task]
        interval = bootstrap_interval(
            _truth(part), scores, metric, threshold=thresholds, task=part.task, resamples=resamples
        )
        figures.save(figures.bootstrap_chart(interval, metric), folder / "bootstrap.png")


def _truth(part: Samples) -> np.ndarray:
    return part.classes if part.task == "single-label" else part.labels


def _mistakes(part: Samples, scores: np.ndarray, thresholds: np.ndarray) -> Iterator[tuple[str, Figure]]:
    mistakes = figures.confident_mistakes(_truth(part), scores, MISTAKES, thresholds)
    if mistakes:
        files = part.files[[mistake.image for mistake in mistakes]]
        titles = [Path(file).name for file in files]
        yield "confident_mistakes", figures.mistakes_sheet(_pictures(files), mistakes, part.label_names, titles)


def _confusion(part: Samples, scores: np.ndarray) -> Figure:
    counts = np.zeros((part.labels.shape[1],) * 2, dtype=int)
    np.add.at(counts, (part.classes, scores.argmax(axis=1)), 1)
    return figures.confusion_matrix(counts, part.label_names)


def _proportions(part: Samples, scores: np.ndarray) -> Iterator[tuple[str, Figure]]:
    yield "dominant_classes", _confusion(part, scores)
    yield "shares", figures.shares(part.labels, scores, part.label_names)


def _singlelabel(part: Samples, scores: np.ndarray, thresholds: np.ndarray) -> Iterator[tuple[str, Figure]]:
    yield "confusion_matrix", _confusion(part, scores)
    yield from _mistakes(part, scores, thresholds)


def _multilabel(
    samples: Samples,
    part: Samples,
    scores: np.ndarray,
    thresholds: np.ndarray,
    summary: dict[str, Any],
    graph_threshold: float,
) -> Iterator[tuple[str, Figure]]:
    counts = cooccurrence(samples.part("train").labels)
    yield "label_graph", figures.label_graph(counts, samples.label_names, graph_threshold)
    rows = summary["per_label"]
    f1 = [row["f1"] if row["f1"] is not None else np.nan for row in rows]
    edges = [row["edges"] for row in rows] if "edges" in rows[0] else None
    yield "per_label_f1", figures.per_label_f1(f1, part.label_names, edge_counts=edges)
    yield "precision_recall", figures.precision_recall(part.labels, scores, part.label_names, thresholds)
    chosen = np.linspace(0, len(part) - 1, min(PANEL, len(part))).astype(int)
    shown = part.select(chosen)
    pictures = _pictures(shown.files)
    yield "panel", figures.score_panel(pictures, shown.labels, scores[chosen], part.label_names, thresholds)
    yield from _mistakes(part, scores, thresholds)


def _pictures(files: np.ndarray) -> list[np.ndarray]:
    return [decode(file) for file in files]
