"""A dense layer that learns from features without moving them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("rsml")
class Probe(keras.layers.Dense):
    """A dense layer whose loss does not reach what lies below it while training.

    Outside training the gradient passes, so that heat maps can ask where the classifier looks.

    Shapes:
        As `keras.layers.Dense`.

    Examples:
        >>> Probe(3)(np.ones((2, 8))).shape
        TensorShape([2, 3])
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return super().call(ops.stop_gradient(inputs) if training else inputs)
