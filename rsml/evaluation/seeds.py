"""Two methods with several trained models each, paired by image and by seed: does one do better?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rsml.evaluation.bootstrap import Interval, PairedTest, make_interval, paired_test, two_sided_p
from rsml.evaluation.checks import EvaluationError
from rsml.tasks import Task


@dataclass(frozen=True, eq=False)
class SeedsTest:
    """Runs a against runs b, on the same images.

    Args:
        metric: its name.
        a: mean over the runs of side a, with its interval.
        b: the same of side b.
        difference: mean over the pairs of `a - b`, with its interval.
        p_value: two-sided, of no difference.
        pairs: the test of each pair alone.
    """

    metric: str
    a: Interval
    b: Interval
    difference: Interval
    p_value: float
    pairs: tuple[PairedTest, ...]

    @property
    def deviation(self) -> float:
        """Standard deviation of the difference over the pairs; NaN for one."""
        each = [pair.difference.value for pair in self.pairs]
        return float(np.std(each, ddof=1)) if len(each) > 1 else float("nan")


def paired_seeds_test(
    metric: str,
    labels: ArrayLike,
    scores_a: Sequence[ArrayLike],
    scores_b: Sequence[ArrayLike],
    *,
    thresholds_a: Sequence[ArrayLike] | None = None,
    thresholds_b: Sequence[ArrayLike] | None = None,
    task: Task | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> SeedsTest:
    """Whether the models of side a differ from those of side b by more than images and seeds explain.

    Every resample draws test images, the same for all models, and pairs of models, both with replacement. With one
    pair that is `paired_test`, which speaks of these two models alone. With few pairs the interval is too narrow, by
    about `sqrt((pairs - 1) / pairs)` where seeds vary more than images: read the deviation over the pairs too.

    Args:
        metric: a scalar metric's name.
        labels: `(images, labels)`, or class numbers `(images,)`.
        scores_a: of each model of side a, `(images, labels)` each.
        scores_b: of side b, paired in order.
        thresholds_a: of each model of side a; 0.5 when None.
        thresholds_b: the same of side b.
        task: as in `bootstrap_intervals`.
        resamples: how many.
        seed: of the resampling.
        level: of the intervals.
    """
    count = len(scores_a)
    if not count or count != len(scores_b):
        raise EvaluationError(f"models are compared in pairs, found {count} against {len(scores_b)}: give as many each")
    pairs = tuple(
        paired_test(
            metric,
            labels,
            a,
            b,
            threshold_a=0.5 if thresholds_a is None else thresholds_a[place],
            threshold_b=0.5 if thresholds_b is None else thresholds_b[place],
            task=task,
            resamples=resamples,
            seed=seed,
            level=level,
        )
        for place, (a, b) in enumerate(zip(scores_a, scores_b, strict=True))
    )
    # A stream of its own: which pairs are drawn must not hang on which images are.
    drawn = np.random.default_rng((seed, 1)).integers(count, size=(count, resamples))
    sides = {}
    for side in ("a", "b", "difference"):
        each = [getattr(pair, side) for pair in pairs]
        samples = np.stack([interval.samples for interval in each])
        chosen = np.take_along_axis(samples, drawn, axis=0).mean(axis=0)
        sides[side] = make_interval(np.mean([interval.value for interval in each]), chosen, level)
    return SeedsTest(metric, **sides, p_value=two_sided_p(sides["difference"].samples), pairs=pairs)
