"""How far a metric would move on other test images of the same kind: intervals, and paired tests of two models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rsml.evaluation.checks import EvaluationError, check_scores
from rsml.tasks import TASKS, Task, TaskRow
from rsml.tasks import task as task_row

Metric = str | Callable[[np.ndarray, np.ndarray], float]
_BLOCK = 4_000_000
"""Weights held at once (32 MB)."""
_BIASED = {"map_over_seen_labels", "mean_average_precision", "per_label_ap"}


@dataclass(frozen=True, eq=False)
class Interval:
    """A metric with its percentile bootstrap interval.

    Args:
        value: the metric on the part itself; an array for `per_label_*` metrics.
        low: lower end.
        high: upper end.
        samples: the metric on every resample, `(resamples,)` or `(resamples, labels)`; NaN where it is undefined.
        level: share of the resamples between `low` and `high`.
    """

    value: Any
    low: Any
    high: Any
    samples: np.ndarray
    level: float = 0.95

    def __str__(self) -> str:
        return format_interval(self.value, self.low, self.high)


@dataclass(frozen=True, eq=False)
class PairedTest:
    """Model a against model b on the same images.

    Args:
        metric: its name.
        a: of model a, with its bootstrap interval.
        b: of model b, on the same resamples.
        difference: `a - b` with its interval.
        p_value: two-sided, of no difference.
        only_a_right: images that a alone gets right (single-label; None otherwise).
        only_b_right: images that b alone gets right.
        mcnemar_p: exact McNemar test of the two counts, two-sided: which model is more often right.
    """

    metric: str
    a: Interval
    b: Interval
    difference: Interval
    p_value: float
    only_a_right: int | None = None
    only_b_right: int | None = None
    mcnemar_p: float | None = None

    @property
    def value_a(self) -> float:
        """Of model a."""
        return self.a.value

    @property
    def value_b(self) -> float:
        """Of model b."""
        return self.b.value

    def __str__(self) -> str:
        text = (
            f"{self.metric}: {100 * self.value_a:.2f} against {100 * self.value_b:.2f}, "
            f"difference {100 * self.difference.value:+.2f} "
            f"[{100 * self.difference.low:+.2f}, {100 * self.difference.high:+.2f}], {format_p(self.p_value)}"
        )
        if self.mcnemar_p is not None:
            text += f"; right alone {self.only_a_right} : {self.only_b_right}, McNemar {format_p(self.mcnemar_p)}"
        return text


def format_interval(value: float, low: float, high: float, *, scale: float = 100.0, decimals: int = 1) -> str:
    """`93.1 [91.8, 94.2]`; a dash for what is undefined."""

    def number(x: float) -> str:
        return "-" if not np.isfinite(x) else f"{scale * x:.{decimals}f}"

    return f"{number(value)} [{number(low)}, {number(high)}]"


def format_p(p_value: float) -> str:
    """`p = 0.012`, or `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def bootstrap_intervals(
    labels: ArrayLike,
    scores: ArrayLike,
    metrics: Sequence[str],
    *,
    threshold: ArrayLike = 0.5,
    task: Task | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of several metrics over the same resamples of the images.

    A resample is a weighting of the images, so that counts and per-image numbers are computed once for all resamples
    and average precision sorts each label once. A resample that has lost the last image of a label gets one of its
    images back: mAP over fewer labels is another number, and jumps by points. Average precision is biased upwards on
    few images, on resamples once more; its interval is moved down by twice that (see benchmarks/coverage.py).

    Args:
        labels: `(images, labels)`, or class numbers `(images,)`.
        scores: `(images, labels)`.
        metrics: names of `multilabel_metrics` or `singlelabel_metrics`.
        threshold: for multi-label metrics.
        task: needed only where the labels are a table and the metric exists for several tasks: multi-label if None.
        resamples: how many.
        seed: the same seed draws the same images, whatever the metric.
        level: share of the distribution inside the interval.
    """
    part, definitions = _part(labels, scores, threshold, task, metrics)
    _check_options(resamples, level)
    values = {name: np.asarray(definitions[name](part.view(np.ones((1, part.size)))))[0] for name in metrics}
    samples: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    for weights in _resamples(part.size, resamples, seed):
        _give_back(weights, part.present, seed)
        view = part.view(weights)
        for name in metrics:
            samples[name].append(definitions[name](view))
    return {
        name: make_interval(values[name], np.concatenate(samples[name]), level, centred=name in _BIASED)
        for name in metrics
    }


def bootstrap_interval(
    labels: ArrayLike,
    scores: ArrayLike,
    metric: Metric,
    *,
    threshold: ArrayLike = 0.5,
    task: Task | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of one metric: see `bootstrap_intervals`.

    Args:
        labels: `(images, labels)`, or class numbers `(images,)`.
        scores: `(images, labels)`.
        metric: a name, or any function of labels and scores (then recomputed for every resample, and thus slower).
        threshold: for named multi-label metrics.
        task: "multi-label" or "single-label", where labels and name leave it open.
        resamples: how many.
        seed: of the resampling.
        level: share of the distribution inside the interval.

    Returns:
        An `Interval`; `str(interval)` reads `93.1 [91.8, 94.2]`.
    """
    if isinstance(metric, str):
        options: dict[str, Any] = {
            "threshold": threshold,
            "task": task,
            "resamples": resamples,
            "seed": seed,
            "level": level,
        }
        return bootstrap_intervals(labels, scores, [metric], **options)[metric]
    _check_options(resamples, level)
    truth, values = np.asarray(labels), check_scores(scores)
    if len(truth) != len(values):
        raise EvaluationError(f"{len(truth)} rows of labels do not fit {len(values)} rows of scores")
    drawn = (np.repeat(np.arange(len(truth)), row.astype(int)) for row in _rows(len(truth), resamples, seed))
    samples = np.array([metric(truth[rows], values[rows]) for rows in drawn], dtype=float)
    return make_interval(np.asarray(metric(truth, values), dtype=float), samples, level)


def paired_test(
    metric: Metric,
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    threshold_a: ArrayLike = 0.5,
    threshold_b: ArrayLike = 0.5,
    task: Task | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> PairedTest:
    """Whether model a differs from model b by more than the choice of test images explains.

    Both models are measured on the same resamples. The two-sided p value is twice the smaller share of resamples whose
    difference is on either side of zero (ties on both), with one resample added so that it is never 0. It speaks of
    these two trained models, not of the two methods: several seeds are needed for that.

    Args:
        metric: a scalar metric's name, or a function of labels and scores.
        labels: `(images, labels)`, or class numbers `(images,)`.
        scores_a: of model a, `(images, labels)`.
        scores_b: of model b, same images in the same order.
        threshold_a: of model a.
        threshold_b: of model b.
        task: as in `bootstrap_intervals`.
        resamples: how many.
        seed: of the resampling.
        level: of the difference's interval.
    """
    shapes = np.shape(scores_a), np.shape(scores_b)
    if shapes[0] != shapes[1]:
        raise EvaluationError(f"a paired test needs the same images: scores have shapes {shapes[0]} and {shapes[1]}")
    options: dict[str, Any] = {"task": task, "resamples": resamples, "seed": seed, "level": level}
    a = bootstrap_interval(labels, scores_a, metric, threshold=threshold_a, **options)
    b = bootstrap_interval(labels, scores_b, metric, threshold=threshold_b, **options)
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")
    if a.samples.ndim > 1:
        raise EvaluationError(f"a paired test needs a metric that is one number, {name} is one per label")
    samples = a.samples - b.samples
    right: dict[str, Any] = {}
    if (row := _row(labels, task, [metric] if isinstance(metric, str) else [])).one_class:
        part_a, part_b = (row.load("part")(labels, scores) for scores in (scores_a, scores_b))
        right_a, right_b = part_a.predicted == part_a.classes, part_b.predicted == part_b.classes
        only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
        from scipy.stats import binomtest  # costs half a second

        exact = binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
        right = {"only_a_right": only_a, "only_b_right": only_b, "mcnemar_p": float(exact)}
    difference = make_interval(np.asarray(a.value - b.value), samples, level)
    return PairedTest(name, a, b, difference, two_sided_p(samples), **right)


def two_sided_p(differences: np.ndarray) -> float:
    """Twice the smaller share of resamples on either side of zero, ties on both; never 0."""
    seen = differences[~np.isnan(differences)]
    # Sums in another order leave dust, which must not decide a tie.
    tail = min((seen < 1e-12).sum(), (seen > -1e-12).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(seen) + 1)))


def _row(labels: ArrayLike, task: Task | None, metrics: Sequence[str]) -> TaskRow:
    """The row of the task, which labels and metrics show where it is not given."""
    if task:
        return task_row(task)
    if np.ndim(labels) == 1:
        return TASKS["single-label"]
    fits = [row for row in TASKS.values() if set(metrics) <= set(row.load("definitions"))]
    return fits[0] if fits else TASKS["multi-label"]


def _part(
    labels: ArrayLike, scores: ArrayLike, threshold: ArrayLike, task: Task | None, metrics: Sequence[str]
) -> tuple[Any, dict[str, Callable[[Any], np.ndarray]]]:
    row = _row(labels, task, metrics)
    definitions = row.load("definitions")
    for name in metrics:
        if name not in definitions or name == "confusion_matrix":
            known = ", ".join(key for key in definitions if key != "confusion_matrix")
            raise EvaluationError(f"unknown metric {name!r} of a {row.name} part: choose from {known}")
    return row.load("part")(labels, scores, *([threshold] if row.thresholds else [])), definitions


def _check_options(resamples: int, level: float) -> None:
    if resamples < 1 or not 0 < level < 1:
        raise EvaluationError(f"resamples must be at least 1 and level between 0 and 1, found {resamples} and {level}")


def _rows(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(generator.integers(images, size=images), minlength=images)


def _resamples(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks `(resamples of the block, images)` of how often each image was drawn."""
    rows = _rows(images, resamples, seed)
    block = max(1, _BLOCK // images)
    for start in range(0, resamples, block):
        yield np.stack([next(rows) for _ in range(min(block, resamples - start))]).astype(np.float64)


def _give_back(weights: np.ndarray, present: np.ndarray, seed: int) -> None:
    """Adds to each resample an image of every label that it has lost, chosen by the seed alone."""
    counts = present.sum(axis=0)
    # Only a label of few images is ever lost: with 50 it happens once in 10^22 resamples.
    for label in np.flatnonzero((counts > 0) & (counts < 50)):
        own = np.flatnonzero(present[:, label])
        lost = np.flatnonzero(weights[:, own].sum(axis=1) == 0)
        chosen = np.random.default_rng((seed, 2, int(label))).integers(len(own), size=len(lost))
        weights[lost, own[chosen]] += 1


def make_interval(value: np.ndarray, samples: np.ndarray, level: float, centred: bool = False) -> Interval:
    """A percentile interval of the metric on every resample, `centred` by twice their bias for a share that has one."""
    tail = 50 * (1 - level)
    ends = np.full((2, *samples.shape[1:]), np.nan)
    defined = ~np.isnan(samples).all(axis=0)
    ends[:, defined] = np.nanpercentile(samples[:, defined], [tail, 100 - tail], axis=0)
    if centred:
        bias = np.nanmean(samples[:, defined], axis=0) - np.asarray(value)[defined]
        ends[:, defined] = np.clip(ends[:, defined] - 2 * bias, 0, 1)
    if samples.ndim == 1:
        return Interval(float(value), float(ends[0]), float(ends[1]), samples, level)
    return Interval(value, ends[0], ends[1], samples, level)
