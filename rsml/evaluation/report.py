"""What an evaluation leaves behind: one JSON-ready summary, and its tables as text, Markdown or CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from rsml.evaluation.bootstrap import Task, bootstrap_intervals, format_interval
from rsml.evaluation.checks import EvaluationError
from rsml.evaluation.measure import NOT_PERCENT, scale_of, task_metrics

Style = Literal["text", "markdown", "csv"]

# Rows of the multi-label headline table: title, then the metrics for F1, F2, P and R.
_AVERAGES = (
    ("mean over images, F of means", ("example_f1", "example_f2", "example_precision", "example_recall")),
    ("mean over labels, F of means", ("label_f1", "label_f2", "label_precision", "label_recall")),
    ("all decisions at once (micro)", ("micro_f1", "micro_f2", "micro_precision", "micro_recall")),
    ("mean of each image's F (samples)", ("samples_f1", "samples_f2", None, None)),
    ("mean of each label's F (macro)", ("macro_f1", "macro_f2", None, None)),
)
_MULTILABEL_SCALARS = (
    ("mAP", "map_over_seen_labels"),
    ("subset accuracy", "subset_accuracy"),
    ("Hamming loss", "hamming_loss"),
    ("ranking loss", "ranking_loss"),
    ("one-error", "one_error"),
    ("label ranking average precision", "label_ranking_average_precision"),
    ("coverage (labels)", "coverage_error"),
)
_SINGLELABEL_SCALARS = (
    ("accuracy", "accuracy"),
    ("balanced accuracy", "balanced_accuracy"),
    ("kappa", "kappa"),
    ("macro F1", "macro_f1"),
    ("macro precision", "macro_precision"),
    ("macro recall", "macro_recall"),
    ("weighted F1", "weighted_f1"),
    ("top-5 accuracy", "top_5_accuracy"),
    ("mAP", "map_over_seen_labels"),
)
_PROPORTIONS_SCALARS = (
    ("KL divergence (nats)", "kl_divergence"),
    ("dominant-class accuracy", "dominant_accuracy"),
    ("overlap of shares", "overlap"),
    ("mean absolute error", "mean_absolute_error"),
)
# Metrics of each label that get an interval.
_WITH_INTERVAL = {
    "multi-label": ("per_label_precision", "per_label_recall", "per_label_f1", "per_label_ap"),
    "single-label": ("per_label_precision", "per_label_recall", "per_label_f1", "per_label_ap"),
    "proportions": ("per_label_absolute_error",),
}


def summary(
    samples_task: Task,
    label_names: Sequence[str],
    labels: ArrayLike,
    scores: ArrayLike,
    thresholds: ArrayLike | None = 0.5,
    *,
    edge_counts: ArrayLike | None = None,
    resamples: int = 0,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """Everything worth keeping of one evaluation, ready for `json.dump` (what is undefined is None).

    Args:
        samples_task: "multi-label", "single-label" or "proportions".
        label_names: in the order of the columns.
        labels: `(images, labels)`, or class numbers for single-label, or shares.
        scores: `(images, labels)`.
        thresholds: one, or one for each label (multi-label); 0.5 when None.
        edge_counts: edges of each label in the label graph, `(labels,)`.
        resamples: of the bootstrap; 0 leaves the intervals out.
        seed: of the bootstrap.
        level: of the intervals.

    Returns:
        `{"task", "images", "metrics": {name: number}, "per_label": [{"label", "support", "predicted", "ap",
        "precision", "recall", "f1", ...}]}` (shares and their errors for proportions), with `threshold` and `edges` per
        label where they are known, `confusion_matrix` for single-label, and
        `intervals: {"level", "resamples", "metrics": {name: [low, high]}}`.
    """
    if samples_task not in _WITH_INTERVAL:
        raise EvaluationError(f"unknown task {samples_task!r}: choose {', '.join(_WITH_INTERVAL)}")
    thresholds = 0.5 if thresholds is None else thresholds
    metrics = task_metrics(labels, scores, samples_task, thresholds)
    width = len(metrics["per_label_support"])
    _check_width(label_names, width, "label names")
    result: dict[str, Any] = {"task": samples_task, "images": len(np.asarray(scores))}
    scalars = [name for name, value in metrics.items() if np.ndim(value) == 0]
    result["metrics"] = {name: _number(metrics[name]) for name in scalars}
    columns = {
        name.removeprefix("per_label_"): values for name, values in metrics.items() if name.startswith("per_label_")
    }
    if samples_task == "multi-label":
        columns["threshold"] = np.broadcast_to(np.asarray(thresholds, dtype=float), (width,))
    if edge_counts is not None:
        _check_width(edge_counts, width, "edge counts")
        columns["edges"] = np.asarray(edge_counts)
    result["per_label"] = [
        {"label": str(label), **{name: _number(values[row]) for name, values in columns.items()}}
        for row, label in enumerate(label_names)
    ]
    if samples_task == "single-label":
        result["confusion_matrix"] = metrics["confusion_matrix"].tolist()
    if resamples:
        per_label = list(_WITH_INTERVAL[samples_task])
        options = {"threshold": thresholds, "task": samples_task, "resamples": resamples, "seed": seed, "level": level}
        intervals = bootstrap_intervals(labels, scores, scalars + per_label, **options)
        ends = {name: [_number(intervals[name].low), _number(intervals[name].high)] for name in scalars}
        result["intervals"] = {"level": level, "resamples": resamples, "metrics": ends}
        for name in per_label:
            low, high = intervals[name].low, intervals[name].high
            for row, entry in enumerate(result["per_label"]):
                entry[f"{name.removeprefix('per_label_')}_interval"] = [_number(low[row]), _number(high[row])]
    return result


def headline_table(evaluation: dict[str, Any], style: Style = "text") -> str:
    """The table that a paper would print: percentages with two decimals, and the bootstrap interval where there is one.

    Args:
        evaluation: a `summary`, or the same read back from JSON.
        style: "csv" gives one metric a line, as fractions, every scalar metric included.
    """
    if style == "csv":
        ends = evaluation.get("intervals", {}).get("metrics", {})
        rows = [
            [name, _plain(value), *map(_plain, ends.get(name, ()))] for name, value in evaluation["metrics"].items()
        ]
        return render(["metric", "value", *(["low", "high"] if ends else [])], rows, style)
    multilabel = evaluation["task"] == "multi-label"
    single = _PROPORTIONS_SCALARS if evaluation["task"] == "proportions" else _SINGLELABEL_SCALARS
    scalars = _MULTILABEL_SCALARS if multilabel else single
    known = [(title, name) for title, name in scalars if name in evaluation["metrics"]]
    rows = [[title, _cell(evaluation, name)] for title, name in known]
    if not multilabel:
        return _caption(evaluation) + render(["", "%" if single is _SINGLELABEL_SCALARS else "% or nats"], rows, style)
    grid = [[title, *(_cell(evaluation, name) if name else "" for name in names)] for title, names in _AVERAGES]
    rows = [[title + (" (%)" if name not in NOT_PERCENT else ""), _cell(evaluation, name)] for title, name in known]
    head = render(["%", "F1", "F2", "precision", "recall"], grid, style)
    return _caption(evaluation) + head + "\n" + render(["", "value"], rows, style)


def per_label_table(evaluation: dict[str, Any], style: Style = "text") -> str:
    """One line a label: support, AP, precision, recall, F1 with their intervals, and where known edges and threshold.

    For proportions: the images that a class dominates, its true and predicted share, its error, its recall.

    Args:
        evaluation: a `summary`, or the same read back from JSON.
        style: "csv" gives fractions in full precision.
    """
    entries = evaluation["per_label"]
    if style == "csv":
        plain = [name for name, value in entries[0].items() if not isinstance(value, list)]
        return render(plain, [[_plain(entry[name]) for name in plain] for entry in entries], style)
    if evaluation["task"] == "proportions":
        return _share_table(evaluation, style)
    edges, threshold = "edges" in entries[0], "threshold" in entries[0]
    header = ["label", "images", "AP", "precision", "recall", "F1", *["edges"] * edges, *["threshold"] * threshold]
    rows = []
    for entry in entries:
        row = [entry["label"], str(entry["support"])]
        for name in ("ap", "precision", "recall", "f1"):
            ends = entry.get(f"{name}_interval")
            row.append(_percent(entry[name]) + (f" {_ends(ends)}" if ends else ""))
        if edges:
            row.append(_plain(entry["edges"]))
        if threshold:
            row.append(f"{entry['threshold']:.3f}")
        rows.append(row)
    return render(header, rows, style)


def _share_table(evaluation: dict[str, Any], style: Style) -> str:
    """One line a class of a proportions part; images are those that it dominates."""
    columns = {
        "share": "share", "predicted": "predicted_share", "error": "absolute_error", "recall": "dominant_recall"
    }  # fmt: skip
    entries = evaluation["per_label"]
    interval = "absolute_error_interval" in entries[0]
    header = ["class", "images", *columns, *([f"error, {_level(evaluation)} interval"] if interval else [])]
    rows = [
        [entry["label"], str(entry["support"]), *(_percent(entry[name]) for name in columns.values())]
        + ([_ends(entry["absolute_error_interval"])] if interval else [])
        for entry in entries
    ]
    return render(header, rows, style)


def confusion_table(evaluation: dict[str, Any], most: int = 10, style: Style = "text") -> str:
    """The pairs of classes that a single-label model confuses most, most frequent first.

    Args:
        evaluation: a single-label `summary`.
        most: how many pairs.
        style: of the table.
    """
    names = [entry["label"] for entry in evaluation["per_label"]]
    counts = np.array(evaluation["confusion_matrix"])
    support = counts.sum(1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(names)) for place in order if counts.flat[place] > 0]
    rows = [[names[i], names[j], str(counts[i, j]), f"{100 * counts[i, j] / support[i]:.2f}"] for i, j in pairs]
    return render(["images of", "called", "images", "% of class"], rows, style)


def full_report(evaluation: dict[str, Any]) -> str:
    """All tables of an evaluation as text: headline, every label, and what a single-label model confuses.

    Args:
        evaluation: a `summary`, or the same read back from JSON.
    """
    parts = [headline_table(evaluation), per_label_table(evaluation)]
    if "confusion_matrix" in evaluation:
        parts.append("confused most:\n\n" + confusion_table(evaluation))
    return "\n".join(parts)


def render(header: Sequence[str], rows: Sequence[Sequence[str]], style: Style = "text") -> str:
    """A table of strings; all columns but the first are aligned to the right. Ends with a line break."""
    if style == "csv":
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])
        return stream.getvalue()
    if style not in ("text", "markdown"):
        raise EvaluationError(f"unknown table style {style!r}: choose text, markdown or csv")
    if style == "markdown":
        rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("| " + " | ".join(cells) + " |" if style == "markdown" else "  ".join(cells).rstrip())
    if style == "markdown":
        lines.insert(1, "|" + "|".join(["---", *["---:"] * (len(widths) - 1)]) + "|")
    else:
        lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines) + "\n"


def _caption(evaluation: dict[str, Any]) -> str:
    kind = "labels" if evaluation["task"] == "multi-label" else "classes"
    text = f"{evaluation['images']} images, {len(evaluation['per_label'])} {kind}"
    thresholds = {entry.get("threshold") for entry in evaluation["per_label"]} - {None}
    if thresholds:
        text += f", threshold {thresholds.pop():g}" if len(thresholds) == 1 else ", a threshold for each label"
    if "intervals" in evaluation:
        text += f"; [{_level(evaluation)} interval of {evaluation['intervals']['resamples']} resamples]"
    return text + "\n\n"


def _level(evaluation: dict[str, Any]) -> str:
    return f"{100 * evaluation['intervals']['level']:g} %"


def _cell(evaluation: dict[str, Any], name: str) -> str:
    scale = scale_of(name)
    value = evaluation["metrics"][name]
    ends = evaluation.get("intervals", {}).get("metrics", {}).get(name)
    return _percent(value, scale) + (f" {_ends(ends, scale)}" if ends else "")


def _ends(ends: Sequence[float | None], scale: float = 100) -> str:
    low, high = (math.nan if end is None else end for end in ends)
    return format_interval(0, low, high, scale=scale).split(" ", 1)[1]


def _percent(value: float | None, scale: float = 100) -> str:
    return "-" if value is None else f"{scale * value:.2f}"


def _plain(value: Any) -> str:
    return "" if value is None else str(value)


def _number(value: Any) -> int | float | None:
    """A plain Python number; None for what is undefined or infinite, which JSON cannot say."""
    number = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(number, float) and not math.isfinite(number) else number


def _check_width(values: ArrayLike | Sequence[str], width: int, what: str) -> None:
    if len(values) != width:
        raise EvaluationError(f"{len(values)} {what} do not fit {width} columns of scores: give one for each")
