"""Charts of data, runs and results. Each function returns a Figure of its own; `save` writes it.

Nothing here touches pyplot or matplotlib's settings, so that a notebook's own figures stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from rsml.evaluation.bootstrap import Interval
from rsml.evaluation.checks import EvaluationError, check_multilabel, check_threshold
from rsml.evaluation.ranking import average_precision
from rsml.figures.curves import learning_curves, score_curve
from rsml.figures.features import feature_map, tsne
from rsml.figures.panels import confident_mistakes, mistakes_sheet, score_panel
from rsml.figures.style import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    annotate,
    canvas,
    colours,
    grid_cells,
    label_colours,
    name_columns,
    name_rows,
    open_frame,
    save,
    shorten,
    small_multiples,
)
from rsml.graph import conditional_probabilities, threshold_graph

__all__ = [
    "bootstrap_chart",
    "confident_mistakes",
    "confusion_matrix",
    "feature_map",
    "label_counts",
    "label_graph",
    "learning_curves",
    "mistakes_sheet",
    "per_label_f1",
    "precision_recall",
    "save",
    "score_curve",
    "score_panel",
    "shares",
    "tsne",
]

SPLIT_COLOURS = {"train": BLUE, "valid": ORANGE, "test": GREEN, "": GREY}


def label_counts(labels: ArrayLike, splits: ArrayLike, label_names: Sequence[str]) -> Figure:
    """How many images of each split have each label, most frequent label first (the SIGNA paper's Fig. 9).

    Args:
        labels: `(images, labels)` of 0 and 1.
        splits: `(images,)` of split names, "" where undivided.
        label_names: in column order.
    """
    labels, splits = np.asarray(labels), np.asarray(splits).astype(str)
    parts = [name for name in SPLIT_COLOURS if (splits == name).any()]
    parts += sorted(set(splits.tolist()) - set(parts))
    counts = {name: labels[splits == name].sum(0).astype(int) for name in parts}
    total = labels.sum(0).astype(int)
    order = np.argsort(-total, kind="stable")
    figure, axes = canvas(7.5, 1.3 + 0.24 * len(label_names))
    left = np.zeros(len(order))
    for name in parts:
        width = counts[name][order]
        axes.barh(
            np.arange(len(order)),
            width,
            left=left,
            height=0.72,
            color=SPLIT_COLOURS.get(name, GREY),
            label=name or "all",
        )
        left += width
    longest = max(1, total.max())
    for place, label in enumerate(order):
        split = " + ".join(str(counts[name][label]) for name in parts)
        text = f"{total[label]}" + (f"  ({split})" if len(parts) > 1 else "")
        axes.text(total[label] + longest * 0.012, place, text, va="center", fontsize=7.5, color=DARK)
    axes.set_xlim(0, longest * (1.3 if len(parts) > 1 else 1.1))
    name_rows(axes, [label_names[label] for label in order])
    axes.set_xlabel("images")
    if len(parts) > 1:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(parts), frameon=False, fontsize=9)
    return figure


def label_graph(counts: ArrayLike, label_names: Sequence[str], threshold: float = 0.4) -> Figure:
    """Conditional probability of label j where label i is, and what the threshold Q keeps of it (Fig. 10 and 11).

    Args:
        counts: co-occurrence counts `(labels, labels)`, from the training part.
        label_names: in order.
        threshold: Q.
    """
    counts = np.asarray(counts)
    before = np.array(conditional_probabilities(counts), dtype=float)
    after = np.array(threshold_graph(counts, threshold), dtype=float)
    width = len(label_names)
    size = max(4.2, 0.31 * width + 1.3)
    figure = Figure(figsize=(2 * size + 0.9, size + 0.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    edges = int((after > 0).sum())
    titles = ("P(column | row)", f"kept by Q = {threshold:g}: {edges} directed edges")
    for axes, matrix, title in zip(panels, (before, after), titles, strict=True):
        image = axes.imshow(np.where(matrix > 0, matrix, np.nan), cmap="Blues", vmin=0, vmax=1)
        name_columns(axes, label_names)
        axes.set_title(title, fontsize=11)
        if width <= 24:
            for row, column in zip(*np.nonzero(matrix >= 0.005), strict=True):
                value = matrix[row, column]
                text = "1" if value >= 0.995 else f"{value:.2f}".lstrip("0")
                colour = "white" if value > 0.6 else DARK
                axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
        grid_cells(axes, width)
    name_rows(panels[0], label_names, invert=False)
    figure.colorbar(image, ax=panels, fraction=0.02, pad=0.01)
    return figure


def per_label_f1(
    f1: ArrayLike,
    label_names: Sequence[str],
    *,
    other: ArrayLike | None = None,
    names: tuple[str, str] = ("this run", "other run"),
    edge_counts: ArrayLike | None = None,
) -> Figure:
    """F1 of each label, beside another run's, and against the label's edges in the label graph (Section IV-E1).

    With another run the right panel shows the gain over it, without one the F1 itself.

    Args:
        f1: `(labels,)`, fractions.
        label_names: in order.
        other: the same of the run to compare with.
        names: of this run and the other one.
        edge_counts: `(labels,)`, edges in and out.
    """
    f1 = 100 * np.asarray(f1, dtype=float)
    against = None if other is None else 100 * np.asarray(other, dtype=float)
    figure = Figure(figsize=(7 if edge_counts is None else 12.5, 1.4 + 0.27 * len(f1)), layout="constrained")
    panels = figure.subplots(1, 1 if edge_counts is None else 2, squeeze=False)[0]
    axes, rows = panels[0], np.arange(len(f1))
    if against is None:
        axes.barh(rows, f1, height=0.7, color=BLUE)
        ends = f1
    else:
        axes.barh(rows - 0.19, f1, height=0.36, color=BLUE, label=names[0])
        axes.barh(rows + 0.19, against, height=0.36, color=GREY, label=names[1])
        ends = np.fmax(f1, against)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)
    for row, value in enumerate(f1):
        text = f"{value:.1f}" + ("" if against is None else f"  ({value - against[row]:+.1f})")
        axes.text(ends[row] + 1, row, text, va="center", fontsize=7.5, color=DARK)
    axes.set_xlim(0, 118 if against is not None else 108)
    axes.set_xticks(range(0, 101, 20))
    name_rows(axes, label_names)
    axes.set_xlabel("F1 (%)")
    if edge_counts is not None:
        edges = np.asarray(edge_counts)
        height = f1 if against is None else f1 - against
        scatter = panels[1]
        scatter.scatter(edges, height, s=26, color=BLUE, zorder=3)
        if against is not None:
            scatter.axhline(0, color=GREY, linewidth=1, zorder=1)
        scatter.set_xlabel("edges of the label in the label graph (in + out)")
        scatter.set_ylabel("F1 (%)" if against is None else f"F1 of {names[0]} minus {names[1]} (points)")
        scatter.margins(0.1)
        open_frame(scatter)
        annotate(figure, scatter, edges, height, label_names)
    return figure


def confusion_matrix(counts: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Images of each class (row) called each class (column): the count in the cell, the share of the row as its shade.

    Args:
        counts: `(classes, classes)`.
        class_names: in order.
    """
    counts = np.asarray(counts)
    support = counts.sum(1)
    share = counts / np.maximum(support, 1)[:, None]
    width = len(class_names)
    size = max(4.5, 0.29 * width + 1.5)
    figure = Figure(figsize=(size + 1.2, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.where(share > 0, share, np.nan), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for row, column in zip(*np.nonzero(counts), strict=True):
        wrong = row != column
        colour = "white" if share[row, column] > 0.6 else ("#a32020" if wrong else DARK)
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize=7 if len(text) < 4 else 5.5, color=colour)
    grid_cells(axes, width)
    name_columns(axes, class_names)
    recall = [
        f"{name}  {100 * share[i, i]:.0f} %" if support[i] else f"{name}  -" for i, name in enumerate(class_names)
    ]
    name_rows(axes, recall, invert=False)
    axes.set_xlabel("called")
    axes.set_ylabel("true class, and how much of it is recognised")
    right = int(np.trace(counts))
    axes.set_title(
        f"{right} of {int(support.sum())} images right ({100 * right / max(1, support.sum()):.2f} %)", fontsize=11
    )
    figure.colorbar(image, ax=axes, fraction=0.035, pad=0.015, label="share of the true class")
    return figure


def precision_recall(
    labels: ArrayLike, scores: ArrayLike, label_names: Sequence[str], thresholds: ArrayLike = 0.5
) -> Figure:
    """Precision against recall, one small panel a label, with its AP; a dot marks the decision threshold.

    Args:
        labels: `(images, labels)`.
        scores: `(images, labels)`.
        label_names: in column order.
        thresholds: one, or one for each label.
    """
    truth, values = check_multilabel(labels, scores)
    limits = check_threshold(thresholds, truth.shape[1])
    averages = average_precision(truth, values)
    figure, panels = small_multiples(len(label_names), columns=6, width=1.75, height=1.75, share=True)
    for column, (axes, name) in enumerate(zip(panels, label_names, strict=True)):
        order = np.argsort(values[:, column])[::-1]
        hits = np.cumsum(truth[order, column])
        ends = np.append(np.diff(values[order, column]) != 0, True)
        total = int(hits[-1])
        axes.set_title(shorten(name, 20), fontsize=8)
        if total:
            recall, precision = hits[ends] / total, (hits / np.arange(1, len(hits) + 1))[ends]
            axes.step(np.append(0, recall), np.append(precision[0], precision), where="pre", color=BLUE, linewidth=1.4)
            kept = values[:, column] > limits[column]
            right = (kept & truth[:, column]).sum()
            if kept.any():
                axes.plot(right / total, right / kept.sum(), "o", color=ORANGE, markersize=4.5, zorder=4)
            place = (0.06, 0.07) if averages[column] > 0.4 else (0.55, 0.8)
            axes.text(*place, f"AP {100 * averages[column]:.1f}\nn = {total}", fontsize=7.5, color=DARK)
        else:
            axes.text(0.5, 0.5, "never occurs", ha="center", va="center", fontsize=7.5, color=DARK)
        axes.set(xlim=(-0.02, 1.03), ylim=(0, 1.05), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.tick_params(labelsize=7)
        axes.grid(color="#e6e8ea", linewidth=0.6)
        open_frame(axes)
    figure.supxlabel("recall", fontsize=9)
    figure.supylabel("precision", fontsize=9)
    return figure


def bootstrap_chart(intervals: Interval | Mapping[str, Interval], metric: str = "accuracy", bins: int = 40) -> Figure:
    """The distribution of a metric over resampled test sets, with its interval shaded.

    Args:
        intervals: one, or several by name (two models, say).
        metric: what was measured, for the axis.
        bins: of the histogram.
    """
    several = {"": intervals} if isinstance(intervals, Interval) else dict(intervals)
    samples = {name: 100 * interval.samples[~np.isnan(interval.samples)] for name, interval in several.items()}
    if not all(len(values) for values in samples.values()):
        raise EvaluationError(f"{metric} is undefined on every resample: there is no distribution to draw")
    edges = _bin_edges(np.concatenate(list(samples.values())), bins)
    figure, axes = canvas(7, 4)
    for (name, interval), colour in zip(several.items(), colours(len(several)), strict=True):
        label = f"{name}  {interval}".strip()
        axes.axvspan(100 * interval.low, 100 * interval.high, color=colour, alpha=0.13, linewidth=0)
        axes.hist(samples[name], bins=edges.tolist(), color=colour, alpha=0.75, label=label)
        axes.axvline(100 * interval.value, color=colour, linewidth=1.6)
    level = next(iter(several.values())).level
    resamples = len(next(iter(several.values())).samples)
    axes.set_xlabel(f"{metric} (%) over {resamples} resampled test sets; shaded: {100 * level:g} % interval")
    axes.set_ylabel("test sets")
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    open_frame(axes)
    return figure


def _bin_edges(samples: np.ndarray, bins: int) -> np.ndarray:
    """Equal bins; of whole steps where the metric moves in steps (1/images), which else would comb the histogram."""
    span = np.ptp(samples)
    steps = np.diff(np.unique(np.round(samples, 9)))
    if not len(steps) or span / steps.min() > 5000:
        return np.histogram_bin_edges(samples, bins=bins if len(steps) else 1)
    width = steps.min() * np.ceil(span / steps.min() / bins)
    return np.arange(samples.min() - steps.min() / 2, samples.max() + width, width)


def shares(labels: ArrayLike, scores: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Predicted share against true share, one small panel a class, with its mean absolute error.

    Args:
        labels: true shares `(images, classes)`.
        scores: predicted shares `(images, classes)`.
        class_names: in column order.
    """
    truth, predicted = 100 * np.asarray(labels), 100 * np.asarray(scores)
    figure, panels = small_multiples(len(class_names), columns=4, width=2.1, height=2.1, share=True)
    shades = [colour or to_rgb(BLUE) for colour in label_colours(class_names)]
    for column, (axes, name) in enumerate(zip(panels, class_names, strict=True)):
        axes.plot([0, 100], [0, 100], color=GREY, linewidth=1)
        axes.plot(
            truth[:, column], predicted[:, column], "o", color=shades[column], markersize=2.5, alpha=0.5, linewidth=0
        )
        axes.set_title(shorten(name, 24), fontsize=9)
        error = np.abs(truth[:, column] - predicted[:, column]).mean()
        axes.text(3, 97, f"error {error:.1f}", va="top", fontsize=7.5, color=DARK)
        axes.set(xlim=(-3, 103), ylim=(-3, 103), xticks=(0, 50, 100), yticks=(0, 50, 100))
        open_frame(axes)
    figure.supxlabel("true share (%)", fontsize=9)
    figure.supylabel("predicted share (%)", fontsize=9)
    return figure
