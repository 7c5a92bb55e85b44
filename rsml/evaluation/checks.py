"""What labels, scores and thresholds must look like to be evaluated; what does not is refused in one line."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rsml.utils.errors import UserError


class EvaluationError(UserError, ValueError):
    """Labels, scores or thresholds that cannot be evaluated."""


def check_scores(scores: ArrayLike) -> np.ndarray:
    """Scores as a floating `(images, labels)` array without NaN, or an `EvaluationError`."""
    try:
        array = np.asarray(scores)
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"scores must be a table of numbers (images, labels): {error}") from None
    if array.ndim != 2:
        raise EvaluationError(f"scores must have shape (images, labels), found shape {array.shape}")
    if 0 in array.shape:
        raise EvaluationError(f"scores of shape {array.shape} hold no image or no label: there is nothing to evaluate")
    if np.isnan(array).any():
        row, column = np.argwhere(np.isnan(array))[0]
        raise EvaluationError(
            f"scores hold {int(np.isnan(array).sum())} NaN, the first at image {row}, label {column}: "
            "the model that made them has diverged or its input was not finite"
        )
    return array


def _array(labels: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(labels)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"labels must be an array of numbers: {error}") from None


def check_multilabel(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Boolean labels and floating scores of one shape, or an `EvaluationError`."""
    values = check_scores(scores)
    found = _array(labels)
    if found.shape != values.shape:
        raise EvaluationError(
            f"labels of shape {found.shape} do not fit scores of shape {values.shape}: both must be (images, labels)"
        )
    truth = found == 1
    strange = ~(truth | (found == 0))
    if strange.any():
        row, column = np.argwhere(strange)[0]
        raise EvaluationError(f"labels must be 0 or 1, found {found[row, column]} at image {row}, label {column}")
    return truth, values


def check_threshold(threshold: ArrayLike, width: int) -> np.ndarray:
    """Thresholds as a `(labels,)` float64 array from one number or one for each label, or an `EvaluationError`."""
    try:
        values = np.asarray(threshold, dtype=np.float64)
    except (TypeError, ValueError):
        raise EvaluationError(f"threshold must be a number or one number per label, found {threshold!r}") from None
    if values.shape not in ((), (1,), (width,)):
        raise EvaluationError(f"threshold must be one number or {width} (one per label), found shape {values.shape}")
    if np.isnan(values).any():
        raise EvaluationError("threshold is NaN: give a number, or tune the thresholds again")
    return np.broadcast_to(values, (width,))


def check_singlelabel(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers `(images,)` and floating scores `(images, classes)`, or an `EvaluationError`."""
    values = check_scores(scores)
    images, width = values.shape
    found = _array(labels)
    if found.shape == (images, width) and width > 1:
        truth, _ = check_multilabel(found, values)
        count = truth.sum(1)
        if (count != 1).any():
            row = int(np.flatnonzero(count != 1)[0])
            raise EvaluationError(f"one-hot labels must mark one class per image, image {row} has {int(count[row])}")
        return truth.argmax(1), values
    if found.shape == (images, 1):
        found = found[:, 0]
    if found.shape != (images,):
        raise EvaluationError(
            f"labels of shape {found.shape} do not fit scores of shape {values.shape}: "
            f"give class numbers ({images},) or one-hot rows ({images}, {width})"
        )
    if found.dtype.kind not in "biuf" or (found.dtype.kind == "f" and not (found == np.floor(found)).all()):
        raise EvaluationError(f"class numbers must be whole numbers from 0 to {width - 1}, found type {found.dtype}")
    outside = (found < 0) | (found >= width)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise EvaluationError(f"class {found[row]} of image {row} is outside 0 to {width - 1}, the classes with scores")
    return found.astype(np.int64), values
