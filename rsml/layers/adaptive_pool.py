"""Average pooling to a fixed size, whatever the size of the feature map."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("rsml")
class AdaptiveAveragePool(keras.layers.Layer):
    """Averages a feature map into `size` x `size` cells, as PyTorch's AdaptiveAvgPool2d does.

    Cell i of n pixels averages those from `floor(i n / size)` to `ceil((i + 1) n / size)`: cells overlap where the
    size does not divide, and repeat pixels where the map is smaller. Keras has such a layer from 3.13 on only.

    Args:
        size: Side of the result.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`, all but the batch known.

    Output shape: `(batch, size, size, channels)`.

    Examples:
        >>> pooled = AdaptiveAveragePool(1)(np.arange(4.0).reshape(1, 2, 2, 1))
        >>> float(pooled[0, 0, 0, 0])
        1.5
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if size < 1:
            raise ValueError(f"AdaptiveAveragePool: expected size to be a positive integer, got {size!r}")
        self.size = size

    def call(self, inputs: Any) -> Any:
        if tuple(inputs.shape[1:3]) == (self.size, self.size):
            return inputs
        rows, columns = (ops.cast(self._shares(side), inputs.dtype) for side in inputs.shape[1:3])
        return ops.einsum("ih,jw,bhwc->bijc", rows, columns, inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self.size, self.size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}

    def _shares(self, side: int) -> np.ndarray:
        """What each pixel of a side gives to each cell, `(size, side)`."""
        cell, pixel = np.arange(self.size)[:, None], np.arange(side)
        inside = (pixel >= cell * side // self.size) & (pixel < -(-(cell + 1) * side // self.size))
        return (inside / inside.sum(axis=1, keepdims=True)).astype("float32")
