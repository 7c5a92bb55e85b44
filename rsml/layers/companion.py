"""A layer that keeps a second tensor in a model whose output is the first."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("rsml")
class Companion(keras.layers.Layer):
    """Returns the first of two tensors, and thereby keeps the layers behind the second one in the model.

    A functional model holds what leads to its output and nothing else. An embedding beside the classifier would be
    lost; as a companion of the logits it is saved with them and can be cut out by its layer's name. It costs nothing
    at prediction: TensorFlow does not compute what nothing reads.

    Shapes:
        A list of two tensors; the output is the first.

    Examples:
        >>> logits, embedding = np.zeros((2, 3)), np.ones((2, 8))
        >>> Companion()([logits, embedding]).shape
        TensorShape([2, 3])
    """

    def __init__(self, **kwargs: Any) -> None:
        # Half precision would round the logits on their way through.
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)

    def call(self, inputs: list[Any]) -> Any:
        return inputs[0]

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return input_shape[0]
