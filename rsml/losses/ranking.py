"""Learning to rank for multi-label classification (R4C): label, sample and feature ranking."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from rsml.losses.listwise import approximate_ndcg_loss, discounts, ideal_of_sorted
from rsml.losses.numerics import choice, working

_PRESENT_GAIN = 3.0  # 2^2 - 1: a label or sample that is present has relevance 2
_NEUTRAL_GAIN = 1.0  # 2^1 - 1: virtual neutral items have relevance 1

# Squared distances come from products of float32: below this share of the squared norms they are rounding.
_DISTANCE_NOISE = {"float32": 2e-6, "float64": 1e-14}


class _NeutralRanking(keras.losses.Loss):
    """Rankings of scores among virtual neutral items, whose fixed scores lie around 0.5."""

    def __init__(
        self,
        from_logits: bool,
        alpha: float,
        neutral_count: int,
        neutral_range: float,
        reduction: str | None,
        name: str,
        dtype: Any,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = from_logits
        self.alpha = choice("alpha", alpha, 0)
        self.neutral_count = int(choice("neutral_count", neutral_count, 0))
        self.neutral_range = choice("neutral_range", neutral_range, 0, 0.5)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "alpha": self.alpha,
            "neutral_count": self.neutral_count,
            "neutral_range": self.neutral_range,
        }

    def _scores(self, y_pred: Any) -> Any:
        y_pred = working(y_pred)
        return ops.sigmoid(y_pred) if self.from_logits else y_pred

    def _list_losses(self, present: Any, scores: Any) -> tuple[Any, Any]:
        """Returns loss and number of present items of each list, both `(lists,)`."""
        lists = ops.shape(scores)[0]
        spacing = np.linspace(-1.0, 1.0, self.neutral_count) if self.neutral_count > 1 else np.zeros(self.neutral_count)
        spaced = ops.cast(0.5 + self.neutral_range * spacing, scores.dtype)
        neutral = ops.broadcast_to(spaced, (lists, self.neutral_count))
        present = ops.cast(present, scores.dtype)
        gains = ops.concatenate([_PRESENT_GAIN * present, ops.ones_like(neutral) * _NEUTRAL_GAIN], axis=1)
        # Only two gains occur, so the ideal order needs no sorting: the present items first, then the neutral ones.
        count = ops.sum(present, axis=1)
        places = discounts(ops.shape(gains)[1], scores.dtype)
        cumulated = ops.concatenate([ops.zeros((1,), scores.dtype), ops.cumsum(places)], axis=0)
        first = ops.cast(ops.round(count), "int32")
        upto_present, upto_neutral = ops.take(cumulated, first), ops.take(cumulated, first + self.neutral_count)
        ideal = (_PRESENT_GAIN - _NEUTRAL_GAIN) * upto_present + _NEUTRAL_GAIN * upto_neutral
        losses = approximate_ndcg_loss(ops.concatenate([scores, neutral], axis=1), gains, ideal, self.alpha)
        return losses, count


@keras.saving.register_keras_serializable("rsml")
class LabelRanking(_NeutralRanking):
    """Ranks the labels of each image: present ones above neutral ones above absent ones.

    One list an image: present labels have relevance 2, absent labels 0, and `neutral_count` virtual labels of
    relevance 1 hold fixed scores in `[0.5 - neutral_range, 0.5 + neutral_range]`, which makes 0.5 the learned
    threshold. With `pi_i = 0.5 + sum_j sigmoid(alpha (s_j - s_i))` the loss of an image is

        (1 - sum_i (2^rel_i - 1) / log2(pi_i + 1) / IDCG) / (number of its labels),

    and 0 for an image that has no label. `reduction="sum"` gives the published sum; the default divides it by the
    number of images, those without a label included.

    Args:
        from_logits: Whether predictions are logits rather than probabilities.
        alpha: Steepness of the approximate ranks.
        neutral_count: Number of virtual neutral labels; a single one scores 0.5.
        neutral_range: Half the width of the interval of their scores.
        reduction: As in every Keras loss.
        name: Name of the loss.
        dtype: Precision of the inputs; half precision is computed in float32.

    Shapes:
        Labels 0/1 `(batch, labels)` and predictions `(batch, labels)`.

    Examples:
        >>> right, wrong = [[0.9, 0.1]], [[0.1, 0.9]]
        >>> bool(LabelRanking()([[1.0, 0.0]], right) < LabelRanking()([[1.0, 0.0]], wrong))
        True

    Reference:
        Huang et al., "Learning to rank for multilabel aerial image classification" (R4C).
    """

    def __init__(
        self,
        from_logits: bool = False,
        alpha: float = 100.0,
        neutral_count: int = 4,
        neutral_range: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "label_ranking",
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, alpha, neutral_count, neutral_range, reduction, name, dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        losses, count = self._list_losses(y_true, self._scores(y_pred))
        return ops.where(count > 0, losses / ops.maximum(count, 1.0), ops.zeros_like(losses))


@keras.saving.register_keras_serializable("rsml")
class SampleRanking(_NeutralRanking):
    """Ranks the images of a batch under each label: `LabelRanking`'s problem, transposed.

    One list a label: images that have it (relevance 2) should score above `neutral_count` virtual images (relevance
    1), and those above the images that lack it. The loss of a list is `1 - DCG / IDCG`; `reduction="sum"` gives the
    published sum over labels, the default divides it by the number of labels. `reduction=None` returns one value a
    label.

    Args:
        from_logits: Whether predictions are logits rather than probabilities.
        alpha: Steepness of the approximate ranks.
        neutral_count: Number of virtual neutral images; a single one scores 0.5.
        neutral_range: Half the width of the interval of their scores.
        reduction: As in every Keras loss.
        name: Name of the loss.
        dtype: Precision of the inputs; half precision is computed in float32.

    Shapes:
        Labels 0/1 `(batch, labels)` and predictions `(batch, labels)`. There is no loss of one image, so sample
        weights are refused.

    Examples:
        >>> right, wrong = [[0.9], [0.1]], [[0.1], [0.9]]
        >>> bool(SampleRanking()([[1.0], [0.0]], right) < SampleRanking()([[1.0], [0.0]], wrong))
        True

    Reference:
        Huang et al., "Learning to rank for multilabel aerial image classification" (R4C).
    """

    def __init__(
        self,
        from_logits: bool = False,
        alpha: float = 100.0,
        neutral_count: int = 16,
        neutral_range: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "sample_ranking",
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, alpha, neutral_count, neutral_range, reduction, name, dtype)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if sample_weight is not None:
            raise ValueError("SampleRanking ranks all images of a batch under each label: it takes no sample weights")
        return super().__call__(y_true, y_pred)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        scores = ops.transpose(self._scores(y_pred))
        return self._list_losses(ops.transpose(y_true), scores)[0]


@keras.saving.register_keras_serializable("rsml")
class FeatureRanking(keras.losses.Loss):
    """Ranks the other images of a batch by distance of features: the more labels are shared, the nearer.

    One list an image over the B - 1 others: relevance is the Jaccard similarity of the two label sets (0 when neither
    has a label), the score is minus the Euclidean distance of the features. The loss of a list is `1 - DCG / IDCG`,
    and 0 where no other image shares a label. `reduction="sum"` gives the published sum; the default divides it by the
    number of images.

    Memory holds `(batch, batch)` arrays and a bounded number of pairs of pairs, never `(batch, batch, batch)`.
    Features that are equal up to rounding have distance 0 and no gradient between them. With a batch of one there is
    nothing to rank: the loss is 0.

    Args:
        alpha: Steepness of the approximate ranks.
        reduction: As in every Keras loss.
        name: Name of the loss.
        dtype: Precision of the inputs; half precision is computed in float32.

    Shapes:
        Labels 0/1 `(batch, labels)` and, in the predictions' place, features `(batch, width)`.

    Examples:
        >>> labels = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
        >>> near, far = [[0.0], [0.1], [5.0]], [[0.0], [5.0], [0.1]]
        >>> bool(FeatureRanking()(labels, near) < FeatureRanking()(labels, far))
        True

    Reference:
        Huang et al., "Learning to rank for multilabel aerial image classification" (R4C).
    """

    def __init__(
        self,
        alpha: float = 10.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "feature_ranking",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.alpha = choice("alpha", alpha, 0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        features = working(y_pred)
        labels = ops.cast(y_true, features.dtype)
        # An image is not in its own list: it gains nothing, and at this distance it lifts nobody's rank.
        itself = ops.eye(ops.shape(features)[0], dtype=features.dtype)
        gains = (2.0 ** _jaccard(labels) - 1.0) * (1.0 - itself)
        distances = _distances(features) + itself * 1e30
        return approximate_ndcg_loss(-distances, gains, ideal_of_sorted(gains), self.alpha)


def _jaccard(labels: Any) -> Any:
    """Jaccard similarity `(batch, batch)` of label sets `(batch, labels)`, 0 for two empty ones."""
    shared = ops.matmul(labels, ops.transpose(labels))
    count = ops.sum(labels, axis=1)
    either = count[:, None] + count[None, :] - shared
    return shared / ops.maximum(either, 1.0)


def _distances(features: Any) -> Any:
    """Euclidean distances `(batch, batch)`, with a gradient that is 0 where the distance is.

    Written with its gradient: one product of matrices there, where differentiating the formula would take two.
    """
    # Distances do not see a shift, and rounding is smaller around the mean.
    centred = features - ops.stop_gradient(ops.mean(features, axis=0, keepdims=True))
    noise = _DISTANCE_NOISE[keras.backend.standardize_dtype(features.dtype)]

    @tf.custom_gradient
    def between(rows: Any) -> Any:
        products = ops.matmul(rows, ops.transpose(rows))
        norms = tf.linalg.diag_part(products)
        both = norms[:, None] + norms[None, :]
        squared = both - 2.0 * products
        apart = squared > noise * both
        inverse = ops.where(apart, tf.math.rsqrt(ops.where(apart, squared, 1.0)), 0.0)

        def backward(upstream: Any) -> Any:
            pull = (upstream + ops.transpose(upstream)) * inverse
            return ops.sum(pull, axis=1, keepdims=True) * rows - ops.matmul(pull, rows)

        return squared * inverse, backward

    return between(centred)
