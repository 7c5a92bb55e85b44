"""Pictures of single images with what the model makes of them: score panels and the most confident mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

from rsml.evaluation.checks import EvaluationError, check_multilabel, check_singlelabel, check_threshold
from rsml.figures.style import shorten

WRONG, MISSED, RIGHT = "#1f5fd0", "#cc1f1f", "#22262a"
"""Blue: predicted, not true. Red: true, not predicted. Dark: right."""


@dataclass(frozen=True)
class Mistake:
    """One wrong decision.

    Args:
        image: its row.
        predicted: the label that was wrongly given; None where a label was missed.
        missed: the true label that was not given; None for a label too many.
        score: the score of `predicted`, or of `missed` where nothing was given in its stead.
    """

    image: int
    predicted: int | None
    missed: int | None
    score: float


def confident_mistakes(
    labels: ArrayLike, scores: ArrayLike, count: int = 24, threshold: ArrayLike = 0.5
) -> list[Mistake]:
    """The wrong decisions that the model was surest of, surest first.

    Single-label: by the score of the class that was called. Multi-label: by the distance of the score from its
    threshold, on a scale where both 0 and 1 are at distance 1.

    Args:
        labels: class numbers `(images,)`, or 0 and 1 `(images, labels)`.
        scores: probabilities `(images, labels)`.
        count: at most so many.
        threshold: for multi-label.
    """
    if np.ndim(labels) == 1:
        classes, values = check_singlelabel(labels, scores)
        called = values.argmax(1)
        sure = values[np.arange(len(values)), called]
        wrong = np.flatnonzero(called != classes)
        wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:count]
        return [Mistake(int(i), int(called[i]), int(classes[i]), float(sure[i])) for i in wrong]
    truth, values = check_multilabel(labels, scores)
    limit = check_threshold(threshold, truth.shape[1])
    given = values > limit
    room = np.where(given, 1 - limit, limit)
    sure = np.abs(values - limit) / np.maximum(room, 1e-9)
    rows, columns = np.nonzero(given != truth)
    order = np.argsort(-sure[rows, columns], kind="stable")[:count]
    return [
        Mistake(int(i), int(j), None, float(values[i, j]))
        if given[i, j]
        else Mistake(int(i), None, int(j), float(values[i, j]))
        for i, j in zip(rows[order], columns[order], strict=True)
    ]


def mistakes_sheet(
    images: Sequence[np.ndarray],
    mistakes: Sequence[Mistake],
    label_names: Sequence[str],
    titles: Sequence[str] | None = None,
    columns: int = 6,
) -> Figure:
    """A contact sheet of mistakes: what was wrongly given in blue with its score, what was missed in red.

    Args:
        images: one `(height, width, 3)` uint8 picture for each mistake.
        mistakes: of `confident_mistakes`.
        label_names: in column order.
        titles: a line above each picture (its file name).
        columns: pictures side by side.
    """
    if len(images) != len(mistakes):
        raise EvaluationError(f"{len(images)} images do not fit {len(mistakes)} mistakes: give one for each")
    columns = max(1, min(columns, len(mistakes)))
    rows = max(1, math.ceil(len(mistakes) / columns))
    lines = max((int(m.predicted is not None) + int(m.missed is not None) for m in mistakes), default=1)
    height = 2.15 + 0.2 * lines + (0.05 if titles else 0)
    figure = Figure(
        figsize=(columns * 1.95 + 0.2, rows * height + 0.35), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    )
    if not mistakes:
        figure.text(0.5, 0.5, "no mistake", ha="center", va="center", fontsize=12)
        return figure
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(mistakes) :]:
        axes.remove()
    for place, (axes, image, mistake) in enumerate(zip(grid, images, mistakes, strict=False)):
        _picture(axes, image)
        if titles:
            axes.set_title(shorten(titles[place], 26), fontsize=7, color=RIGHT, pad=2)
        captions = []
        if mistake.predicted is not None:
            captions.append((f"{shorten(label_names[mistake.predicted], 20)}  {mistake.score:.3f}", WRONG))
        if mistake.missed is not None:
            number = f"  {mistake.score:.3f}" if mistake.predicted is None else ""
            captions.append((f"{shorten(label_names[mistake.missed], 20)}{number}", MISSED))
        for line, (text, colour) in enumerate(captions):
            axes.text(
                0.5,
                -0.04 - 0.115 * line,
                text,
                transform=axes.transAxes,
                ha="center",
                va="top",
                fontsize=8,
                color=colour,
            )
        # The same room under every picture, so that rows are of equal height.
        axes.set_xlabel("\n" * (lines - 1) + " ", fontsize=8)
    figure.suptitle("blue: wrongly given   red: true, but missed", fontsize=9, color=RIGHT)
    return figure


def score_panel(
    images: Sequence[np.ndarray],
    labels: ArrayLike,
    scores: ArrayLike,
    label_names: Sequence[str],
    threshold: ArrayLike = 0.5,
    *,
    top: int = 7,
    columns: int = 2,
) -> Figure:
    """Images with their true labels at the left and the highest scores at the right (the panel of the R4C README).

    At the right a label wrongly given is blue and a true label below its threshold red; at the left a missed label is
    red too, as it may not be among the highest scores.

    Args:
        images: `(height, width, 3)` uint8 pictures.
        labels: 0 and 1, `(images, labels)`.
        scores: probabilities `(images, labels)`.
        label_names: in column order.
        threshold: one, or one for each label.
        top: how many scores.
        columns: images side by side.
    """
    truth, values = check_multilabel(labels, scores)
    if len(images) != len(truth):
        raise EvaluationError(f"{len(images)} images do not fit {len(truth)} rows of labels: give one for each")
    given = values > check_threshold(threshold, truth.shape[1])
    top = min(top, truth.shape[1])
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05, wspace=0, hspace=0)
    figure = Figure(figsize=(columns * 5.6, rows * 1.95 + 0.35), layout=layout)
    grid = figure.subplots(rows, 3 * columns, squeeze=False, width_ratios=[1.35, 1.7, 2.5] * columns)
    for axes in grid.ravel()[3 * len(images) :]:
        axes.remove()
    for place, image in enumerate(images):
        left, middle, right = grid[place // columns, 3 * (place % columns) : 3 * (place % columns) + 3]
        _picture(middle, image)
        _true_labels(left, truth[place], given[place], label_names)
        _scores(
            right,
            truth[place],
            given[place],
            values[place],
            label_names,
            np.argsort(-values[place], kind="stable")[:top],
        )
    figure.suptitle(
        f"left: true labels   right: the {top} highest scores   blue: wrongly given   red: missed",
        fontsize=9,
        color=RIGHT,
    )
    return figure


def runs_panel(
    images: Sequence[np.ndarray],
    labels: ArrayLike,
    runs: Sequence[tuple[str, ArrayLike, ArrayLike]],
    label_names: Sequence[str],
    titles: Sequence[str] | None = None,
    *,
    top: int = 7,
    title: str = "",
) -> Figure:
    """Images with the scores of several runs side by side (the R4C README's comparison of methods).

    Of every run a label wrongly given is blue and a true label not given red; at the left a true label that no run
    gives is red.

    Args:
        images: `(height, width, 3)` uint8 pictures.
        labels: 0 and 1, `(images, labels)`.
        runs: of each its name, its scores and its 0/1 decisions, `(images, labels)` both.
        label_names: in column order.
        titles: a line above each picture (its file name).
        top: how many labels of each run: those true or given first, then those of the highest scores.
        title: which images these are.
    """
    truth = np.asarray(labels) > 0
    if len(images) != len(truth):
        raise EvaluationError(f"{len(images)} images do not fit {len(truth)} rows of labels: give one for each")
    answers = [(name, *check_multilabel(given, scores)) for name, scores, given in runs]
    top = min(top, truth.shape[1])
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05, wspace=0, hspace=0)
    figure = Figure(figsize=(3.05 + 2.5 * len(answers), len(images) * 1.75 + 0.75), layout=layout)
    widths = [1.35, 1.7, *[2.5] * len(answers)]
    grid = figure.subplots(len(images), len(widths), squeeze=False, width_ratios=widths)
    found = np.any([given for _, given, _ in answers], axis=0)
    for place, (image, (left, middle, *rights)) in enumerate(zip(images, grid, strict=True)):
        _true_labels(left, truth[place], found[place], label_names)
        _picture(middle, image)
        if titles:
            middle.set_title(shorten(titles[place], 26), fontsize=7, color=RIGHT, pad=2)
        for axes, (name, given, scores) in zip(rights, answers, strict=True):
            # What is true or given is shown however low its score, so that no fault stays unseen while there is room.
            matters = truth[place] | given[place]
            shown = np.lexsort((-scores[place], ~matters))[:top]
            shown = shown[np.argsort(-scores[place][shown], kind="stable")]
            _scores(axes, truth[place], given[place], scores[place], label_names, shown)
            if place == 0:
                axes.set_title(shorten(name, 32), fontsize=9, color=RIGHT, loc="left", fontweight="bold")
    legend = "left: true labels   right: scores of each run   blue: wrongly given   red: missed"
    figure.suptitle("\n".join([*([title] if title else []), legend]), fontsize=9, color=RIGHT)
    return figure


def _picture(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _true_labels(axes: Axes, truth: np.ndarray, given: np.ndarray, names: Sequence[str]) -> None:
    axes.set_axis_off()
    own = np.flatnonzero(truth)
    step = min(0.125, 1 / max(1, len(own)))
    for line, label in enumerate(own):
        height = 0.5 + step * ((len(own) - 1) / 2 - line)
        colour = RIGHT if given[label] else MISSED
        axes.text(
            1,
            height,
            shorten(names[label], 17),
            transform=axes.transAxes,
            ha="right",
            va="center",
            fontsize=8,
            color=colour,
        )
    if not len(own):
        axes.text(1, 0.5, "(none)", transform=axes.transAxes, ha="right", va="center", fontsize=8, color=RIGHT)


def _scores(
    axes: Axes, truth: np.ndarray, given: np.ndarray, scores: np.ndarray, names: Sequence[str], shown: np.ndarray
) -> None:
    axes.set(xlim=(0, 2.35), ylim=(len(shown) - 0.4, -0.6), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for line, label in enumerate(shown):
        colour = RIGHT
        if given[label] != truth[label]:
            colour = WRONG if given[label] else MISSED
        axes.barh(
            line,
            scores[label],
            left=1.05,
            height=0.62,
            color=colour,
            alpha=0.8 if given[label] or truth[label] else 0.25,
        )
        axes.text(1.0, line, shorten(names[label], 17), ha="right", va="center", fontsize=8, color=colour)
        axes.text(1.08 + max(0.0, scores[label]), line, f"{scores[label]:.2f}", va="center", fontsize=7, color=colour)
