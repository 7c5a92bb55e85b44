"""The loss on the logits: a choice of its own, beside backbone and methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from rsml.utils.errors import UserError
from rsml.utils.settings import Settings

LossFunction = Callable[[Any, Any], Any]
"""From labels and logits, both `(batch, labels)`, to a scalar."""


class CrossEntropy(Settings):
    """Binary cross entropy for multi-label data, categorical for single-label, GeoKR's for proportions.

    The last is the categorical one over the number of classes: the mean over images and classes.

    Attributes:
        label_smoothing: Share of the target spread evenly: towards 0.5, or over all classes.
    """

    kind: Literal["cross-entropy"] = "cross-entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    def function(self, task: str, weights: np.ndarray | None = None) -> LossFunction:
        """Returns the loss; `weights` multiplies each label's positives, or each class's images."""
        # The numerically stable forms with weights are TensorFlow's; keras.ops has none.
        import tensorflow as tf

        scale = None if weights is None else tf.constant(weights, tf.float32)

        def multi_label(labels: Any, logits: Any) -> Any:
            target = labels * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
            if scale is None:
                return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(target, logits))
            return tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits(target, logits, scale))

        def single_label(labels: Any, logits: Any) -> Any:
            target = labels * (1 - self.label_smoothing) + self.label_smoothing / labels.shape[-1]
            loss = tf.nn.softmax_cross_entropy_with_logits(target, logits)
            return tf.reduce_mean(loss if scale is None else loss * tf.linalg.matvec(labels, scale))

        def proportions(labels: Any, logits: Any) -> Any:
            return single_label(labels, logits) / labels.shape[-1]

        return {"multi-label": multi_label, "single-label": single_label, "proportions": proportions}[task]


class NoObjective(Settings):
    """No loss on the logits: the methods' own terms are all there is."""

    kind: Literal["none"] = "none"

    def function(self, task: str, weights: np.ndarray | None = None) -> LossFunction:
        """Returns a loss that is always zero."""
        from keras import ops

        return lambda labels, logits: ops.zeros(())


class _KerasLoss(Settings):
    """A loss of `rsml.losses` that is defined for one task and takes the options of its objective."""

    kind: str
    loss: ClassVar[str]
    task: ClassVar[str]

    def function(self, task: str, weights: np.ndarray | None = None) -> LossFunction:
        """Returns the loss, averaged over images (and labels)."""
        from keras import ops

        from rsml import losses

        if task != self.task:
            raise UserError(
                f"objective '{self.kind}' is for {self.task} data, found {task} data; "
                "choose another with --set objective=..."
            )
        if weights is not None:
            raise UserError(
                f"objective '{self.kind}' takes no class weights; leave out training.class_weights, "
                "or choose --set objective=cross-entropy"
            )
        loss_class = getattr(losses, self.loss)
        # Averaged here, because Keras's own mean divides by the number of devices too.
        loss = loss_class(from_logits=True, reduction=None, **self.arguments_for(loss_class))
        return lambda labels, logits: ops.mean(loss(labels, logits))


class Asymmetric(_KerasLoss):
    """Asymmetric loss (ASL) of multi-label data: easy absent labels count little, or nothing below `clip`.

    Attributes:
        gamma_negative: Focusing of absent labels.
        gamma_positive: Focusing of present labels.
        clip: Probability that absent labels are forgiven.
    """

    kind: Literal["asymmetric"] = "asymmetric"
    loss: ClassVar[str] = "AsymmetricLoss"
    task: ClassVar[str] = "multi-label"
    gamma_negative: float = Field(4.0, ge=0)
    gamma_positive: float = Field(1.0, ge=0)
    clip: float = Field(0.05, ge=0, le=0.99)


class Focal(_KerasLoss):
    """Focal loss of multi-label data: labels that are easy already count little.

    Attributes:
        gamma: Focusing.
        alpha: Weight of present labels, against `1 - alpha` of absent ones; None weighs neither.
    """

    kind: Literal["focal"] = "focal"
    loss: ClassVar[str] = "FocalLoss"
    task: ClassVar[str] = "multi-label"
    gamma: float = Field(2.0, ge=0)
    alpha: float | None = Field(0.25, ge=0, le=1)


class ImprovedCrossEntropy(_KerasLoss):
    """Cross entropy of single-label data, plus the margin by which a wrong class wins.

    Attributes:
        label_smoothing: Share of the target spread over all classes.
    """

    kind: Literal["improved-cross-entropy"] = "improved-cross-entropy"
    loss: ClassVar[str] = "ImprovedCrossEntropy"
    task: ClassVar[str] = "single-label"
    label_smoothing: float = Field(0.0, ge=0, lt=1)


def _named(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


Objective = Annotated[
    Annotated[CrossEntropy | NoObjective | Asymmetric | Focal | ImprovedCrossEntropy, Field(discriminator="kind")],
    BeforeValidator(_named),
]
"""Any objective; its kind alone stands for it with its defaults."""


def label_weights(labels: np.ndarray, task: str, largest: float = 10.0) -> np.ndarray:
    """Weights that make up for rare labels, from the training part.

    Multi-label: negatives / positives of each label; single-label: images / (classes * images of the class).
    Both are held within [1 / largest, largest]; a label that never occurs gets 1.
    """
    positives = labels.sum(axis=0, dtype=np.float64)
    expected = (
        len(labels) - positives if task == "multi-label" else np.full(labels.shape[1], len(labels) / labels.shape[1])
    )
    weights = np.divide(expected, positives, out=np.ones_like(positives), where=positives > 0)
    return np.clip(weights, 1 / largest, largest).astype(np.float32)
