"""Average pooling to a map of a fixed size, whatever the size of the map before, as PyTorch defines it."""

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("rsml")
class AdaptivePool(keras.layers.Layer):
    """Averages a map over `side` x `side` windows that cover it; where it has fewer rows or columns, they repeat.

    Window i of n reaches from floor(i * size / n) to ceil((i + 1) * size / n), which overlap where n does not divide
    the size. It is computed as a product with a fixed matrix an axis.

    Args:
        side: Height and width of the result.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`.

    Output shape: `(batch, side, side, channels)`.

    Example:
        >>> AdaptivePool(2)(keras.ops.reshape(keras.ops.arange(3.0), (1, 3, 1, 1)))[0, :, 0, 0]
        [0.5, 1.5]

    Reference: `torch.nn.AdaptiveAvgPool2d`.
    """

    def __init__(self, side: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.side = side

    def call(self, inputs: Any) -> Any:
        if inputs.shape[1:3] == (self.side, self.side):
            return inputs
        rows, columns = (ops.convert_to_tensor(_windows(size, self.side), inputs.dtype) for size in inputs.shape[1:3])
        x = ops.matmul(columns, inputs)  # over the width
        x = ops.matmul(rows, ops.transpose(x, (0, 2, 1, 3)))
        return ops.transpose(x, (0, 2, 1, 3))

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return input_shape[0], self.side, self.side, input_shape[-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "side": self.side}


def _windows(size: int, count: int) -> np.ndarray:
    """`(count, size)`: the share of each row in each window."""
    window, place = np.arange(count)[:, None], np.arange(size)[None]
    inside = (place >= window * size // count) & (place < -(-(window + 1) * size // count))
    return (inside / inside.sum(axis=1, keepdims=True)).astype("float32")
