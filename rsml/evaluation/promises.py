"""Thresholds with a promise: recall or precision kept on new images, by conformal risk control on validation images.

The loss of an image is a number in 0..1 that only falls as the threshold moves one way: for recall the share of its
true labels that are missed, for precision the share of its named labels that are wrong, at this or any stricter
threshold. With n exchangeable validation images and losses L_i the threshold is the least strict (precision) or the
strictest (recall) one at which

    (L_1 + ... + L_n + 1) / (n + 1) <= 1 - level,

and then the expected loss of a new image of the same kind is at most 1 - level, whatever the model. The 1 stands for
the new image at its worst, so that n >= level / (1 - level) images are needed. With one label an image and recall this
is split conformal prediction: the labels above the threshold are a set that holds the true class with that probability.

Reference: Angelopoulos et al., Conformal Risk Control, ICLR 2024.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rsml.evaluation.checks import EvaluationError

MEASURES = ("recall", "precision")


@dataclass(frozen=True)
class Promise:
    """A level that a measure is to keep on new images.

    Attributes:
        measure: "recall": of an image's true labels so many are named. "precision": of its named labels so many are
            true (none named counts as 1).
        level: Between 0 and 1.
        one_class: Whether each image has one class: named are then a set of classes (recall), or the first class or
            none at all (precision).
        threshold: The threshold of all labels that keeps it, once it is fitted.
        images: Validation images that it rests on.

    Examples:
        >>> Promise.parse("recall>=0.95").needed
        19
    """

    measure: str
    level: float
    one_class: bool = False
    threshold: float | None = None
    images: int = 0

    @classmethod
    def parse(cls, text: str, one_class: bool = False) -> Promise:
        """Reads "recall>=0.95" or "precision>=0.9"."""
        found = re.fullmatch(r"\s*(\w+)\s*>=\s*(0?\.\d+|\d+(?:\.\d+)?\s*%)\s*", text)
        if not found or found[1] not in MEASURES:
            raise EvaluationError(
                f"evaluation.thresholds {text!r}: expected recall>=LEVEL or precision>=LEVEL, such as recall>=0.95"
            )
        level = float(found[2].rstrip("% ")) / (100 if "%" in found[2] else 1)
        if not 0 < level < 1:
            raise EvaluationError(f"evaluation.thresholds {text!r}: the level must lie between 0 and 1")
        return cls(found[1], level, one_class)

    def __str__(self) -> str:
        return f"{self.measure} >= {self.level:g}"

    @property
    def needed(self) -> int:
        """Validation images from which on it can be given at all."""
        return math.ceil(self.level / (1 - self.level) - 1e-9)

    def fit(self, labels: ArrayLike, scores: ArrayLike) -> Promise:
        """The promise with the threshold that keeps it; refuses too few images.

        Args:
            labels: 0 or 1, `(images, labels)` of the validation part.
            scores: Probabilities of the same images.
        """
        truth, values = np.asarray(labels) > 0, np.asarray(scores, np.float64)
        images, allowed = len(truth), 1 - self.level
        if images < self.needed:
            raise EvaluationError(
                f"{self}: needs {self.needed} validation images, found {images}: {self.needed - images} are missing; "
                "enlarge the validation part or promise less"
            )
        places, jumps = self._losses(truth, values)
        order = np.argsort(places, kind="stable")
        # One threshold a distinct score: labels of equal score are named together.
        at, first = np.unique(places[order], return_index=True)
        totals = np.add.reduceat(jumps[order], first) if len(at) else np.zeros(0)
        if self.measure == "recall":
            # Losses jump up as the threshold reaches a true label's score.
            broken = np.flatnonzero((np.cumsum(totals) + 1) / (images + 1) > allowed + 1e-12)
            stop = int(broken[0]) if len(broken) else len(at)
            low = at[stop - 1] if stop else 0.0
            high = at[stop] if stop < len(at) else 1.0
            threshold = (low + high) / 2 if stop else min(low, high)
        else:
            # Losses fall to what comes later as the threshold passes a wrong label's score.
            left = np.append(np.cumsum(totals[::-1])[::-1], 0.0)
            kept = np.flatnonzero((left + 1) / (images + 1) <= allowed + 1e-12)
            stop = int(kept[0])
            threshold = at[stop - 1] if stop else 0.0
        return Promise(self.measure, self.level, self.one_class, float(threshold), images)

    def named(self, scores: ArrayLike) -> np.ndarray:
        """The labels that the promise names, 0/1 `(images, labels)`."""
        values = np.asarray(scores)
        return _namable(values, self.measure, self.one_class) & (values > self.threshold)

    def unsure(self, scores: ArrayLike) -> np.ndarray:
        """Images on which it cannot be kept with a plain answer, `(images,)` bool.

        Precision: nothing could be named. Recall: a label had to be named that is more likely absent than present; of
        one class, not exactly one was left.
        """
        values = np.asarray(scores)
        named = self.named(values)
        if self.measure == "precision":
            return np.asarray(~named.any(axis=1))
        return np.asarray(named.sum(axis=1) != 1 if self.one_class else (named & (values <= 0.5)).any(axis=1))

    def reached(self, labels: ArrayLike, scores: ArrayLike, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
        """What it came to on other images: the measure, its interval, labels named an image, images unsure."""
        truth, named = np.asarray(labels) > 0, self.named(scores)
        hits = (truth & named).sum(axis=1)
        out_of = truth.sum(axis=1) if self.measure == "recall" else named.sum(axis=1)
        kept = np.where(out_of > 0, hits / np.maximum(out_of, 1), 1.0)
        result: dict[str, Any] = {
            "reached": float(kept.mean()),
            "named": float(named.sum(axis=1).mean()),
            "unsure": float(self.unsure(scores).mean()),
        }
        if resamples:
            drawn = np.random.default_rng(seed).multinomial(len(kept), np.full(len(kept), 1 / len(kept)), resamples)
            result["interval"] = [float(end) for end in np.percentile(drawn @ kept / len(kept), [2.5, 97.5])]
        return {**asdict(self), **result}

    def _losses(self, truth: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores at which the sum of losses jumps as the threshold passes them, and by how much."""
        if self.measure == "recall":
            return values[truth], (truth / np.maximum(truth.sum(axis=1, keepdims=True), 1))[truth]
        values = np.where(_namable(values, self.measure, self.one_class), values, -np.inf)
        order = np.argsort(-values, axis=1, kind="stable")
        wrong = ~np.take_along_axis(truth, order, 1)
        ranked = np.take_along_axis(values, order, 1)
        shares = np.cumsum(wrong, axis=1) / np.arange(1, truth.shape[1] + 1)
        # At this or any stricter threshold: ones that let fewer labels through come first in the row.
        worst = np.maximum.accumulate(shares, axis=1)
        jumps = np.diff(worst, axis=1, prepend=0.0)
        real = (jumps > 0) & np.isfinite(ranked)
        return ranked[real], jumps[real]


def sentence(kept: dict[str, Any], part: str = "test") -> str:
    """One line for people: what was promised, on how many validation images, and what came of it on a part.

    Args:
        kept: Of `Promise.reached`.
        part: Where it was measured.
    """
    ends = kept.get("interval")
    interval = f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else ""
    what = "classes in a set" if kept["one_class"] else "labels an image"
    return (
        f"promised {kept['measure']} >= {100 * kept['level']:g} % from {kept['images']} validation images; "
        f"{part} part: {100 * kept['reached']:.1f} %{interval}, {kept['named']:.2f} {what}, "
        f"unsure of {100 * kept['unsure']:.1f} %"
    )


def _namable(values: np.ndarray, measure: str, one_class: bool) -> np.ndarray:
    """Labels that may be named at all: of one class under precision only the first."""
    if one_class and measure == "precision":
        return np.arange(values.shape[1]) == values.argmax(axis=1)[:, None]
    return np.ones(values.shape, bool)
