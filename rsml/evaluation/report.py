"""What an evaluation leaves behind: one JSON-ready summary, and its tables as text, Markdown or CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from rsml.evaluation.bootstrap import Interval, bootstrap_intervals, format_interval
from rsml.evaluation.checks import EvaluationError
from rsml.evaluation.scalars import NOT_PERCENT, scale_of
from rsml.tasks import Task, task
from rsml.utils.text import some

Style = Literal["text", "markdown", "csv"]

RARE = 10
"""A label with fewer images than this in the measured part is marked: its numbers are mostly chance."""


def summary(
    samples_task: Task,
    label_names: Sequence[str],
    labels: ArrayLike,
    scores: ArrayLike,
    thresholds: ArrayLike | None = 0.5,
    *,
    edge_counts: ArrayLike | None = None,
    valid_counts: ArrayLike | None = None,
    intervals: Mapping[str, Interval] | None = None,
    resamples: int = 0,
) -> dict[str, Any]:
    """Everything worth keeping of one evaluation, ready for `json.dump` (what is undefined is None).

    Args:
        samples_task: "multi-label", "single-label" or "proportions".
        label_names: in the order of the columns.
        labels: `(images, labels)`, or class numbers for single-label, or shares.
        scores: `(images, labels)`.
        thresholds: one, or one for each label (multi-label); 0.5 when None.
        edge_counts: edges of each label in the label graph, `(labels,)`.
        valid_counts: images of each label in the validation part, `(labels,)`, where that chose epoch and thresholds.
        intervals: of `summary_intervals`, where they are made already.
        resamples: of the bootstrap where they are not; 0 leaves the intervals out.

    Returns:
        `{"task", "images", "metrics": {name: number}, "per_label": [{"label", "support", "predicted", "ap",
        "precision", "recall", "f1", ...}]}` (shares and their errors for proportions), with `threshold`, `edges` and
        `valid` per label where they are known, `confusion_matrix` for single-label, and
        `intervals: {"level", "resamples", "metrics": {name: [low, high]}}`.
    """
    row = task(samples_task)
    thresholds = 0.5 if thresholds is None else thresholds
    metrics = row.measure(labels, scores, thresholds)
    width = len(metrics["per_label_support"])
    _check_width(label_names, width, "label names")
    result: dict[str, Any] = {"task": samples_task, "images": len(np.asarray(scores))}
    scalars = [name for name, value in metrics.items() if np.ndim(value) == 0]
    result["metrics"] = {name: _number(metrics[name]) for name in scalars}
    columns = {
        name.removeprefix("per_label_"): values for name, values in metrics.items() if name.startswith("per_label_")
    }
    if row.thresholds:
        columns["threshold"] = np.broadcast_to(np.asarray(thresholds, dtype=float), (width,))
    for name, counts in (("edges", edge_counts), ("valid", valid_counts)):
        if counts is not None:
            _check_width(counts, width, f"{name.removesuffix('s')} counts")
            columns[name] = np.asarray(counts)
    result["per_label"] = [
        {"label": str(label), **{name: _number(values[place]) for name, values in columns.items()}}
        for place, label in enumerate(label_names)
    ]
    if "confusion_matrix" in metrics:
        result["confusion_matrix"] = metrics["confusion_matrix"].tolist()
    if intervals is None and resamples:
        intervals = summary_intervals(samples_task, labels, scores, thresholds, resamples)
    if intervals:
        first = next(iter(intervals.values()))
        ends = {name: [_number(intervals[name].low), _number(intervals[name].high)] for name in scalars}
        result["intervals"] = {"level": first.level, "resamples": len(first.samples), "metrics": ends}
        for name in row.with_interval:
            low, high = intervals[name].low, intervals[name].high
            for place, entry in enumerate(result["per_label"]):
                entry[f"{name.removeprefix('per_label_')}_interval"] = [_number(low[place]), _number(high[place])]
    return result


def summary_intervals(
    samples_task: Task, labels: ArrayLike, scores: ArrayLike, thresholds: ArrayLike = 0.5, resamples: int = 1000
) -> dict[str, Interval]:
    """The intervals that belong into a `summary`, all of the same resamples; arguments as there."""
    row = task(samples_task)
    scalars = [name for name, value in row.measure(labels, scores, thresholds).items() if np.ndim(value) == 0]
    names = [*scalars, *row.with_interval]
    return bootstrap_intervals(labels, scores, names, threshold=thresholds, task=samples_task, resamples=resamples)


def headline_table(evaluation: dict[str, Any], style: Style = "text") -> str:
    """The table that a paper would print: percentages with two decimals, and the bootstrap interval where there is one.

    Args:
        evaluation: a `summary`, or the same read back from JSON.
        style: "csv" gives one metric a line, as fractions, every scalar metric included.
    """
    if style == "csv":
        ends = evaluation.get("intervals", {}).get("metrics", {})
        rows = [
            [name, _as_text(value), *map(_as_text, ends.get(name, ()))] for name, value in evaluation["metrics"].items()
        ]
        return render(["metric", "value", *(["low", "high"] if ends else [])], rows, style)
    row = task(evaluation["task"])
    known = [(title, name) for title, name in row.titles if name in evaluation["metrics"]]
    text = _caption(evaluation)
    if row.averages:
        grid = [[title, *(_cell(evaluation, name) if name else "" for name in names)] for title, names in row.averages]
        text += render(["%", "F1", "F2", "precision", "recall"], grid, style) + "\n"
        known = [(title + (" (%)" if name not in NOT_PERCENT else ""), name) for title, name in known]
    rows = [[title, _cell(evaluation, name)] for title, name in known]
    return text + render(["", row.unit], rows, style) + _marks(evaluation, named=True)


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
        return render(plain, [[_as_text(entry[name]) for name in plain] for entry in entries], style)
    if task(evaluation["task"]).shares:
        return _share_table(evaluation, style)
    edges, threshold = "edges" in entries[0], "threshold" in entries[0]
    header = ["label", "images", "AP", "precision", "recall", "F1", *["edges"] * edges, *["threshold"] * threshold]
    rows = []
    for entry in entries:
        row = [entry["label"] + _mark(entry), str(entry["support"])]
        for name in ("ap", "precision", "recall", "f1"):
            ends = entry.get(f"{name}_interval")
            row.append(_percent(entry[name]) + (f" {_ends(ends)}" if ends else ""))
        if edges:
            row.append(_as_text(entry["edges"]))
        if threshold:
            row.append(f"{entry['threshold']:.3f}")
        rows.append(row)
    return render(header, rows, style) + _marks(evaluation)


def _share_table(evaluation: dict[str, Any], style: Style) -> str:
    """One line a class of a proportions part; images are those that it dominates."""
    columns = {
        "share": "share", "predicted": "predicted_share", "error": "absolute_error", "recall": "dominant_recall"
    }  # fmt: skip
    entries = evaluation["per_label"]
    interval = "absolute_error_interval" in entries[0]
    header = ["class", "images", *columns, *([f"error, {_level(evaluation)} interval"] if interval else [])]
    rows = [
        [entry["label"] + _mark(entry), str(entry["support"]), *(_percent(entry[name]) for name in columns.values())]
        + ([_ends(entry["absolute_error_interval"])] if interval else [])
        for entry in entries
    ]
    return render(header, rows, style) + _marks(evaluation)


def _mark(entry: dict[str, Any]) -> str:
    return ("*" if entry["support"] < RARE else "") + ("!" if entry.get("valid") == 0 else "")


def _marks(evaluation: dict[str, Any], named: bool = False) -> str:
    """What the marks mean, where there are any; by name for a table that does not list the labels."""
    lines = ""
    for mark, text in (
        ("*", f"fewer than {RARE} images in this part, so its numbers are mostly chance"),
        ("!", "no image in the validation part, so neither the epoch nor a threshold was chosen for it"),
    ):
        marked = [entry["label"] for entry in evaluation["per_label"] if mark in _mark(entry)]
        if marked:
            which = some(marked, 5)
            lines += f"\n{mark if not named else which}: {text}"
    return lines + "\n" if lines else ""


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
    labels, noun = len(evaluation["per_label"]), task(evaluation["task"]).noun
    images = "1 image" if evaluation["images"] == 1 else f"{evaluation['images']} images"
    text = f"{images}, {labels} {noun if labels > 1 else noun.removesuffix('es' if noun == 'classes' else 's')}"
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


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)


def _number(value: Any) -> int | float | None:
    """A plain Python number; None for what is undefined or infinite, which JSON cannot say."""
    number = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(number, float) and not math.isfinite(number) else number


def _check_width(values: Any, width: int, what: str) -> None:
    if len(values) != width:
        raise EvaluationError(f"{len(values)} {what} do not fit {width} columns of scores: give one for each")
