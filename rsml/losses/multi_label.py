"""Losses of independent labels that weigh easy negatives down: asymmetric loss and focal loss."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from rsml.losses.numerics import choice, working


class _LogitLoss(keras.losses.Loss):
    """A loss of independent labels, computed from logits (probabilities are turned into them), averaged over labels."""

    def __init__(self, from_logits: bool, reduction: str | None, name: str, dtype: Any) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = from_logits

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "from_logits": self.from_logits}

    def call(self, y_true: Any, y_pred: Any) -> Any:
        logits = working(y_pred)
        if not self.from_logits:
            epsilon = keras.config.epsilon()
            p = ops.clip(logits, epsilon, 1.0 - epsilon)
            logits = ops.log(p) - ops.log1p(-p)
        labels = ops.cast(y_true, logits.dtype)
        present, absent = self._terms(logits)
        return -ops.mean(labels * present + (1.0 - labels) * absent, axis=-1)

    def _terms(self, logits: Any) -> tuple[Any, Any]:
        """Returns what a present and what an absent label adds to the log likelihood, each `(batch, labels)`."""
        raise NotImplementedError


@keras.saving.register_keras_serializable("rsml")
class AsymmetricLoss(_LogitLoss):
    """Asymmetric loss (ASL): focal weights that differ for present and absent labels, and a probability shift.

    With `p = sigmoid(logit)` and the shifted `p_m = max(p - clip, 0)`, the loss of an image is the mean over labels
    of

        -y (1 - p)^gamma_positive log p - (1 - y) p_m^gamma_negative log(1 - p_m),

    so absent labels that score below `clip` cost nothing. The gradient flows through the focal weights too. Both
    gammas 0 and `clip` 0 give binary cross entropy.

    Args:
        gamma_negative: Focusing of absent labels.
        gamma_positive: Focusing of present labels.
        clip: Probability that absent labels are forgiven.
        from_logits: Whether predictions are logits rather than probabilities.
        reduction: As in every Keras loss.
        name: Name of the loss.
        dtype: Precision of the inputs; half precision is computed in float32.

    Shapes:
        Labels 0/1 `(batch, labels)` and predictions `(batch, labels)`.

    Examples:
        >>> loss = AsymmetricLoss(gamma_negative=0, gamma_positive=0, clip=0)  # binary cross entropy
        >>> round(float(loss([[1.0, 0.0]], [[0.5, 0.5]])), 4)
        0.6931

    Reference:
        Ridnik et al., "Asymmetric loss for multi-label classification", ICCV 2021.
    """

    def __init__(
        self,
        gamma_negative: float = 4.0,
        gamma_positive: float = 1.0,
        clip: float = 0.05,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "asymmetric_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, reduction, name, dtype)
        self.gamma_negative = choice("gamma_negative", gamma_negative, 0)
        self.gamma_positive = choice("gamma_positive", gamma_positive, 0)
        self.clip = choice("clip", clip, 0, 0.99)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gamma_negative": self.gamma_negative,
            "gamma_positive": self.gamma_positive,
            "clip": self.clip,
        }

    def _terms(self, logits: Any) -> tuple[Any, Any]:
        log_p, log_not_p = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
        present = _focal(log_not_p, self.gamma_positive) * log_p
        if not self.clip:
            return present, _focal(log_p, self.gamma_negative) * log_not_p
        shifted = ops.sigmoid(logits) - self.clip
        counts = shifted > 0
        # The powers of 0 have no finite slope for a gamma below 1; below the shift the whole term is 0 anyway.
        shifted = ops.where(counts, shifted, ops.full_like(shifted, 0.5))
        # 1 - p_m as a sum of positive numbers: at p = 1 what is left is the shift itself, not its rounding.
        log_not_shifted = ops.log(ops.sigmoid(-logits) + self.clip)
        absent = ops.power(shifted, self.gamma_negative) * log_not_shifted
        return present, ops.where(counts, absent, ops.zeros_like(absent))


@keras.saving.register_keras_serializable("rsml")
class FocalLoss(_LogitLoss):
    """Focal loss of independent labels.

    With `p_t = p` and `alpha_t = alpha` for a present label, `1 - p` and `1 - alpha` for an absent one, the loss of
    an image is the mean over labels of `-alpha_t (1 - p_t)^gamma log p_t`. Keras's `BinaryFocalCrossentropy` goes
    through clipped probabilities, where saturated logits get no gradient; this one stays with log-sigmoids.

    Args:
        gamma: Focusing; 0 leaves (weighted) binary cross entropy.
        alpha: Weight of present labels, or None for no weights at all.
        from_logits: Whether predictions are logits rather than probabilities.
        reduction: As in every Keras loss.
        name: Name of the loss.
        dtype: Precision of the inputs; half precision is computed in float32.

    Shapes:
        Labels 0/1 `(batch, labels)` and predictions `(batch, labels)`.

    Examples:
        >>> round(float(FocalLoss(gamma=2, alpha=None)([[1.0]], [[0.5]])), 4)  # 0.5^2 ln 2
        0.1733

    Reference:
        Lin et al., "Focal loss for dense object detection", ICCV 2017.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "focal_loss",
        dtype: Any = None,
    ) -> None:
        super().__init__(from_logits, reduction, name, dtype)
        self.gamma = choice("gamma", gamma, 0)
        self.alpha = None if alpha is None else choice("alpha", alpha, 0, 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gamma": self.gamma, "alpha": self.alpha}

    def _terms(self, logits: Any) -> tuple[Any, Any]:
        log_p, log_not_p = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
        present, absent = _focal(log_not_p, self.gamma) * log_p, _focal(log_p, self.gamma) * log_not_p
        return (present, absent) if self.alpha is None else (self.alpha * present, (1.0 - self.alpha) * absent)


def _focal(log_q: Any, gamma: float) -> Any:
    """q^gamma from log q, whose slope stays finite at q = 0."""
    return ops.exp(gamma * log_q)
