"""Scores that mean what they say: temperature and Platt scaling, the expected calibration error, reliability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, softmax

from rsml.evaluation.checks import EvaluationError, check_scores

BINS = 15
LEAST_IMAGES = 100
"""Validation images below which nothing is fitted: the fit would follow chance."""
_TINY = 1e-7


@dataclass(frozen=True)
class Calibration:
    """A monotone change of logits: `scale * logit + bias`, before the sigmoid or softmax.

    Attributes:
        scale: `(labels,)`, positive; of a temperature T, 1 / T everywhere.
        bias: `(labels,)`; 0 for a temperature.
        activation: "sigmoid" or "softmax".
        images: Validation images that it was fitted on.
    """

    scale: tuple[float, ...]
    bias: tuple[float, ...]
    activation: str
    images: int = 0

    @property
    def method(self) -> str:
        """What it is called."""
        return "Platt scaling of each label" if self.activation == "sigmoid" else "temperature"

    def scores(self, scores: ArrayLike) -> np.ndarray:
        """Calibrated probabilities of uncalibrated ones, `(images, labels)`, as the model's last layer makes them."""
        values = np.asarray(scores, np.float64)
        scale, bias = np.asarray(self.scale), np.asarray(self.bias)
        logits = scale * _logits(values, self.activation) + bias
        made = expit(logits) if self.activation == "sigmoid" else softmax(logits, axis=-1)
        return made.astype(np.asarray(scores).dtype)

    def thresholds(self, thresholds: ArrayLike) -> np.ndarray:
        """The thresholds that decide on calibrated scores as the given ones do on uncalibrated scores."""
        given = np.asarray(thresholds, np.float64)
        return self.scores(given) if self.activation == "sigmoid" else given

    def as_dict(self) -> dict[str, Any]:
        """What a model's last layer keeps."""
        return {"scale": list(self.scale), "bias": list(self.bias)}


def fit_calibration(labels: ArrayLike, scores: ArrayLike, activation: str) -> Calibration:
    """Fits the calibration of least cross entropy on validation images.

    A softmax gets one temperature. Each sigmoid gets a scale and a bias of its own (Platt scaling). A normal prior of
    unit width on log scale and bias holds a label that few images have near the identity, where its own images say
    nothing; on hundreds of images it does not show. Scales are positive, so that no label's ranking changes.

    Args:
        labels: 0 or 1, `(images, labels)`.
        scores: Uncalibrated probabilities of the same images.
        activation: "sigmoid" or "softmax".

    Examples:
        >>> truth = np.eye(2)[[0, 0, 0, 1] * 50]
        >>> sure = np.full((200, 2), [0.99, 0.01])
        >>> fit_calibration(truth, sure, "softmax").scores(sure)[0].round(2)
        array([0.75, 0.25])

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017. Platt, Probabilistic Outputs for Support
        Vector Machines, 1999.
    """
    truth, values = np.asarray(labels, np.float64), check_scores(scores)
    if len(truth) < LEAST_IMAGES:
        raise EvaluationError(
            f"calibration needs {LEAST_IMAGES} validation images, found {len(truth)}: "
            f"{LEAST_IMAGES - len(truth)} are missing"
        )
    logits = _logits(values, activation)
    if activation == "softmax":
        scale = np.full(truth.shape[1], _inverse_temperature(truth, logits))
        return Calibration(tuple(scale.tolist()), (0.0,) * len(scale), activation, len(truth))
    fitted = [_platt(truth[:, label], logits[:, label]) for label in range(truth.shape[1])]
    scales, biases = zip(*fitted, strict=True)
    return Calibration(scales, biases, activation, len(truth))


def _logits(scores: np.ndarray, activation: str) -> np.ndarray:
    values = np.clip(scores.astype(np.float64), _TINY, 1 - _TINY)
    return logit(values) if activation == "sigmoid" else np.log(values)


def _inverse_temperature(truth: np.ndarray, logits: np.ndarray) -> float:
    def loss(log_scale: np.ndarray) -> tuple[float, np.ndarray]:
        scale = np.exp(log_scale[0])
        log_shares = log_softmax(scale * logits, axis=1)
        slope = scale * (logits * (np.exp(log_shares) - truth)).sum()
        return -(truth * log_shares).sum(), np.array([slope])

    found = minimize(loss, np.zeros(1), jac=True, method="L-BFGS-B", bounds=[(-4, 4)])
    return float(np.exp(found.x[0]))


def _platt(truth: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = np.exp(point[0]), point[1]
        moved = scale * logits + bias
        wrong = expit(moved) - truth
        value = (np.logaddexp(0, moved) - truth * moved).sum() + 0.5 * (point**2).sum()
        return value, np.array([scale * (wrong * logits).sum(), wrong.sum()]) + point

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-4, 4), (-12, 12)])
    return float(np.exp(found.x[0])), float(found.x[1])


def reliability(
    labels: ArrayLike, scores: ArrayLike, activation: str, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The expected calibration error with its bootstrap interval over images, and the bins that it comes from.

    Sigmoids: every decision counts, whether a label scored p is there in p of all cases. Softmax: the class that was
    called. Bins are of equal width; ones without a decision are left out. Chance alone keeps the error above 0.

    Args:
        labels: 0 or 1, `(images, labels)`.
        scores: Probabilities of the same images.
        activation: "sigmoid" or "softmax".
        resamples: Of the bootstrap; 0 leaves the interval out.
        seed: Of the bootstrap.

    Returns:
        `{"ece", "interval", "bins": [{"score", "share", "decisions"}]}`.
    """
    truth, values = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if activation == "softmax":
        called = values.argmax(axis=1)[:, None]
        truth, values = np.take_along_axis(truth, called, 1), np.take_along_axis(values, called, 1)
    images = len(values)
    place = np.minimum((values * BINS).astype(int), BINS - 1)
    sums = np.zeros((3, images, BINS))
    rows = np.arange(images)[:, None]
    for amount, into in zip((np.ones_like(values), values, truth), sums, strict=True):
        np.add.at(into, (rows, place), amount)
    count, score, true = sums.sum(axis=1)
    kept = count > 0
    result: dict[str, Any] = {
        "ece": _error(count, score, true),
        "bins": [
            {"score": float(s / n), "share": float(t / n), "decisions": int(n)}
            for n, s, t in zip(count[kept], score[kept], true[kept], strict=True)
        ],
    }
    if resamples:
        random = np.random.default_rng(seed)
        drawn = random.multinomial(images, np.full(images, 1 / images), size=resamples)
        errors = [_error(*(row @ part for part in sums)) for row in drawn]
        result["interval"] = [float(end) for end in np.percentile(errors, [2.5, 97.5])]
    return result


def _error(count: np.ndarray, score: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(score - true).sum() / count.sum())
