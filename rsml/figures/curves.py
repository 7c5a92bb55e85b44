"""Charts of scores along something: the epochs of a run, or a setting that a comparison varies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rsml.evaluation.checks import EvaluationError
from rsml.evaluation.scalars import scale_of
from rsml.figures.style import BLUE, DARK, GREY, ORANGE, canvas, colours, open_frame, small_multiples

# Metrics worth a curve, in this order, where the history has them; the titles they get.
_TITLES = {
    "loss": "loss",
    "objective": "loss without the methods' terms",
    "example_f1": "example F1",
    "map_over_seen_labels": "mAP",
    "mean_average_precision": "mAP",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "dominant_accuracy": "dominant-class accuracy",
    "kl_divergence": "KL divergence (nats)",
    "learning_rate": "learning rate",
}
_RATES = (("learning_rate", "new parts", BLUE), ("backbone_learning_rate", "backbone", GREY))


def learning_curves(history: pd.DataFrame, metrics: Sequence[str] | None = None, best: int | None = None) -> Figure:
    """One panel a metric, training and validation together, epoch by epoch.

    Args:
        history: one row an epoch, columns as in Keras (`loss`, `val_loss`, ...), with or without `epoch`.
        metrics: which, without `val_`; a choice of the usual ones when None.
        best: the epoch that was kept, marked by a line.
    """
    known = list(dict.fromkeys(column.removeprefix("val_") for column in history.columns if column != "epoch"))
    known = [name for name in known if pd.api.types.is_numeric_dtype(history.get(name, history.get(f"val_{name}")))]
    shown = list(metrics) if metrics else [name for name in _TITLES if name in known] or known
    if "map_over_seen_labels" in shown and not metrics:
        shown = [name for name in shown if name != "mean_average_precision"]
    unknown = [name for name in shown if name not in known]
    if unknown or not shown:
        missing = unknown[0] if unknown else "a metric"
        raise EvaluationError(f"the history has no {missing}: its columns are {', '.join(map(str, history.columns))}")
    epochs = history["epoch"] if "epoch" in history else pd.Series(np.arange(len(history)), index=history.index)
    marker = "o" if len(history) < 30 else None
    figure, panels = small_multiples(len(shown), columns=3, width=3.7, height=2.7)
    for axes, name in zip(panels, shown, strict=True):
        rate = name == "learning_rate"
        lines = _RATES if rate else ((name, "train", GREY), (f"val_{name}", "valid", BLUE))
        lines = [line for line in lines if line[0] in history]
        for column, label, colour in lines:
            # A schedule may end at 0, which a logarithmic axis has no place for.
            values = history[column].where(history[column] > 0) if rate else history[column]
            colour = BLUE if len(lines) == 1 else colour
            axes.plot(epochs, values, color=colour, marker=marker, markersize=3, label=label)
        axes.set_title(_TITLES.get(name, name.replace("_", " ")), fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        if rate:
            axes.set_yscale("log")
        if best is not None:
            axes.axvline(best, color=ORANGE, linewidth=1, linestyle="--", label="chosen epoch")
        if not rate or len(lines) > 1 or best is not None:
            axes.legend(frameon=False, fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        open_frame(axes)
    return figure


def score_curve(runs: pd.DataFrame, key: str, metric: str) -> Figure:
    """A metric against a setting, one line a variant: the mean over seeds, its deviation as a band, each seed as a dot.

    Args:
        runs: one row a run with columns `variant`, `seed`, the setting and the metric.
        key: the setting's column, numbers; drawn on a logarithmic axis where they span more than a factor of ten.
        metric: the metric's column.
    """
    percent = scale_of(metric)
    figure, axes = canvas(6.4, 4.2)
    groups = list(runs.groupby("variant", sort=False))
    for (name, rows), colour in zip(groups, colours(len(groups)), strict=True):
        by_value = percent * rows.groupby(key)[metric].agg(["mean", "std"])
        axes.plot(by_value.index, by_value["mean"], color=colour, marker="o", markersize=4.5, label=name, zorder=3)
        low, high = by_value["mean"] - by_value["std"], by_value["mean"] + by_value["std"]
        axes.fill_between(by_value.index, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(rows[key], percent * rows[metric], "o", color=colour, markersize=2.5, alpha=0.5)
    values = sorted(runs[key].unique())
    if values[0] > 0 and values[-1] > 10 * values[0]:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.set_xlabel(key)
    axes.set_ylabel(_TITLES.get(metric, metric.replace("_", " ")) + (" (%)" if percent == 100 else ""))
    axes.grid(axis="y", color="#e6e8ea", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9)
    seeds = runs["seed"].nunique()
    axes.set_title(f"mean and deviation of {seeds} seeds" if seeds > 1 else "one seed", fontsize=9, color=DARK)
    open_frame(axes)
    return figure
