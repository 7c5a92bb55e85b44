"""How sure a run's model is: calibration, thresholds and promise, settled on its validation part."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from rsml.config import Evaluation, Experiment
from rsml.data.samples import Samples
from rsml.evaluation.calibration import LEAST_IMAGES, Calibration, fit_calibration, reliability
from rsml.evaluation.promises import Promise, sentence
from rsml.evaluation.thresholds import tune_thresholds
from rsml.layers.scene_predictions import predictions_of
from rsml.tasks import task
from rsml.utils.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Certainty:
    """What was settled on the validation part.

    Attributes:
        task: Of the model.
        calibration: None leaves scores as they are.
        thresholds: `(labels,)`, of calibrated scores; None leaves 0.5 or what a promise needs none for.
        promise: None promises nothing.
    """

    task: str
    calibration: Calibration | None = None
    thresholds: np.ndarray | None = None
    promise: Promise | None = None

    def scores(self, raw: np.ndarray) -> np.ndarray:
        """The scores that the model gives from now on, of those that it gave uncalibrated."""
        return raw if self.calibration is None else self.calibration.scores(raw)

    def keep(self, model: keras.Model) -> bool:
        """Puts it into the model's last layer; returns whether there was anything to keep."""
        last = predictions_of(model)
        last.calibration = None if self.calibration is None else self.calibration.as_dict()
        last.thresholds = None if self.thresholds is None else self.thresholds.tolist()
        last.promise = None if self.promise is None else asdict(self.promise)
        # Keras goes on predicting with the function that it traced before.
        model.make_predict_function(force=True)
        return any(kept is not None for kept in (self.calibration, self.thresholds, self.promise))

    def measured(self, part: Samples, raw: np.ndarray, resamples: int) -> dict[str, Any]:
        """What belongs into the summary of a part: reliability before and after, and what became of the promise."""
        row, found = task(self.task), dict[str, Any]()
        if row.shares:
            return found
        scores = self.scores(raw)
        options: dict[str, Any] = {"activation": row.activation, "resamples": resamples}
        found["calibration"] = {"method": None, "images": 0, "before": reliability(part.labels, raw, **options)}
        if self.calibration is not None:
            about = {"method": self.calibration.method, "images": self.calibration.images}
            found["calibration"] |= about | {"after": reliability(part.labels, scores, **options)}
        if self.promise is not None:
            found["promise"] = self.promise.reached(part.labels, scores, resamples=resamples)
        return found


def check_promise(experiment: Experiment, samples: Samples) -> None:
    """Refuses a promise that the validation part cannot give, before anything is trained."""
    text = experiment.evaluation.thresholds
    if text is None:
        return
    row = task(samples.task)
    if row.shares:
        raise UserError(f"evaluation.thresholds {text!r}: shares of classes are not named or missed; leave it out")
    promise, images = Promise.parse(text, row.one_class), int((samples.splits == "valid").sum())
    if images < promise.needed:
        raise UserError(
            f"evaluation.thresholds {promise}: needs {promise.needed} validation images, found {images}: "
            f"{promise.needed - images} are missing; enlarge the validation part or promise less"
        )


def settle(
    options: Evaluation,
    valid: Samples | None,
    raw: np.ndarray | None,
    task_name: str,
    decided: np.ndarray | None = None,
) -> Certainty:
    """Fits what the options ask for; without a validation part there is nothing to fit on.

    Args:
        options: Of the evaluation.
        valid: The validation part.
        raw: Its uncalibrated scores.
        task_name: Of the model.
        decided: `(labels,)` thresholds of uncalibrated scores that a method decides by; None are 0.5 each.
    """
    row = task(task_name)
    if valid is None or raw is None or row.shares:
        return Certainty(task_name, thresholds=decided)
    calibration = None
    if options.calibrate and options.views > 1:
        logger.info(
            "scores are not calibrated: they are means over %d views, which the last layer cannot see", options.views
        )
    elif options.calibrate and len(valid) < LEAST_IMAGES:
        logger.info("scores are not calibrated: that needs %d validation images, found %d", LEAST_IMAGES, len(valid))
    elif options.calibrate:
        calibration = fit_calibration(valid.labels, raw, row.activation)
    scores = raw if calibration is None else calibration.scores(raw)
    thresholds, promise = decided, None
    if row.thresholds and options.tune_thresholds:
        thresholds = tune_thresholds(valid.labels, scores, options.threshold_objective)
    elif row.thresholds and calibration is not None:
        # What was present stays present: calibration changes what scores mean, not what is decided.
        thresholds = calibration.thresholds(np.full(scores.shape[1], 0.5) if decided is None else decided)
    if options.thresholds is not None:
        promise = Promise.parse(options.thresholds, row.one_class).fit(valid.labels, scores)
        if row.thresholds:
            thresholds = np.full(scores.shape[1], promise.threshold)
    return Certainty(task_name, calibration, thresholds, promise)


def certainty_lines(summary: dict[str, Any], part: str) -> list[str]:
    """What a summary says of certainty, for people: a line on calibration and one on the promise."""
    lines = []
    if about := summary.get("calibration"):
        before, after = (_percent(about[side]) if side in about else "" for side in ("before", "after"))
        by = f", {after} after {about['method']} from {about['images']} validation images" if after else ""
        lines.append(f"expected calibration error: {before}{' before' if after else ''}{by}")
    if kept := summary.get("promise"):
        lines.append(sentence(kept, part))
    return lines


def _percent(error: dict[str, Any]) -> str:
    ends = error.get("interval")
    return f"{100 * error['ece']:.1f} %" + (f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else "")
