"""Improved cross-entropy (ICE): cross entropy plus the margin by which a wrong class wins."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from rsml.losses.numerics import choice, working


@keras.saving.register_keras_serializable("rsml")
class ImprovedCrossEntropy(keras.losses.Loss):
    """Cross entropy plus a penalty for the margin by which the wrong top class beats the true one.

    For one image with class probabilities p and target y,

        ICE = -sum_c y_c log p_c + (max_c p_c - sum_c y_c p_c).

    The second term is 0 when the top class is the true one, and at most 1. Probabilities are clipped to
    `[epsilon, 1 - epsilon]` before anything else, as the authors do. Logits give the same values, but their gradient is
    that of the unclipped log-softmax: a class that is certainly wrong still learns.

    Args:
        from_logits: Whether predictions are logits rather than probabilities.
        label_smoothing: Share `s` of the target that is spread over all classes: y becomes `(1 - s) y + s / classes`,
            in both terms.
        epsilon: Clipping of probabilities.
        reduction: As in every Keras loss.
        name: Name of the loss.
        dtype: Precision of the inputs; half precision is computed in float32.

    Shapes:
        Predictions `(..., classes)`; targets one-hot (or any distribution) of the same shape, or class numbers
        `(...)` or `(..., 1)`. One loss value for each `(...)`, so sample weights have that shape.

    Examples:
        >>> loss = ImprovedCrossEntropy()
        >>> float(loss([[0.0, 1.0]], [[0.6, 0.4]]))  # -ln 0.4 + (0.6 - 0.4)
        1.116290...

    Reference:
        Bahri et al., "Remote sensing image classification via improved cross-entropy loss and transfer learning
        strategy based on deep convolutional neural networks", GRSL 2019.
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        epsilon: float = 1e-7,
        reduction: str | None = "sum_over_batch_size",
        name: str = "improved_cross_entropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = from_logits
        self.label_smoothing = choice("label_smoothing", label_smoothing, 0, 1)
        self.epsilon = choice("epsilon", epsilon, 0, 0.5)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "label_smoothing": self.label_smoothing,
            "epsilon": self.epsilon,
        }

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_pred = working(y_pred)
        target = self._target(ops.convert_to_tensor(y_true), y_pred)
        if self.from_logits:
            log_p = ops.log_softmax(y_pred, axis=-1)
            lowest = math.log(self.epsilon) if self.epsilon else -math.inf
            clipped = ops.clip(log_p, lowest, math.log1p(-self.epsilon))
            log_p = ops.stop_gradient(clipped) + (log_p - ops.stop_gradient(log_p))
            p = ops.exp(log_p)
        else:
            p = ops.clip(y_pred, self.epsilon, 1.0 - self.epsilon)
            log_p = ops.log(p)
        margin = ops.max(p, axis=-1) - ops.sum(target * p, axis=-1)
        return margin - ops.sum(target * log_p, axis=-1)

    def _target(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the target distribution in the shape of the predictions."""
        classes = y_pred.shape[-1]
        if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1 and classes != 1:
            y_true = ops.squeeze(y_true, axis=-1)
        if len(y_true.shape) == len(y_pred.shape) - 1:
            target = ops.one_hot(ops.cast(y_true, "int32"), classes, dtype=y_pred.dtype)
        elif len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] in (classes, None):
            target = ops.cast(y_true, y_pred.dtype)
        else:
            raise ValueError(
                f"targets of shape {tuple(y_true.shape)} do not fit predictions of shape {tuple(y_pred.shape)}: "
                f"give class numbers {tuple(y_pred.shape[:-1])} or one distribution over the {classes} classes for each"
            )
        if self.label_smoothing:
            target = target * (1.0 - self.label_smoothing) + self.label_smoothing / classes
        return target
