"""Between feature maps and the tokens of a Vision Transformer, whatever the size of the images."""

import math
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("rsml")
class Tokens(keras.layers.Layer):
    """Turns a map of patches into tokens: the class token, registers, and each patch with its learned position.

    Positions are kept for the grid that the layer was built for. On another grid they are interpolated, by a fixed
    matrix an axis (see `interpolation`), so that a network takes images of another size than it learned.

    Args:
        registers: Number of registers, which stand between the class token and the patches and have no position.
        positions: Whether there are learned positions (a network with rotary ones has none).
        grid: Height and width of the grid that positions are kept for. None: that of the first map.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`.

    Output shape: `(batch, 1 + registers + height * width, channels)`.

    Examples:
        >>> Tokens(registers=4)(keras.ops.ones((1, 3, 2, 8))).shape
        TensorShape([1, 11, 8])
    """

    def __init__(self, registers: int = 0, positions: bool = True, grid: tuple[int, int] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.registers, self.positions = registers, positions
        self.grid: tuple[int, int] = (grid[0], grid[1]) if grid else (0, 0)

    def build(self, input_shape: Any) -> None:
        _, height, width, channels = input_shape
        if not any(self.grid):
            self.grid = (height, width)
        normal = keras.initializers.TruncatedNormal(stddev=0.02)
        self.cls_token = self.add_weight((1, 1, channels), normal.clone(), name="cls_token")
        if self.positions:
            count = 1 + math.prod(self.grid)
            self.pos_embed = self.add_weight((1, count, channels), normal.clone(), name="pos_embed")
        if self.registers:
            self.reg_token = self.add_weight((1, self.registers, channels), normal.clone(), name="reg_token")

    def call(self, inputs: Any) -> Any:
        _, height, width, channels = inputs.shape
        patches = ops.reshape(inputs, (-1, height * width, channels))
        first = ops.convert_to_tensor(self.cls_token)
        if self.positions:
            first = first + self.pos_embed[:, :1]
            patches = patches + self._positions((height, width))
        if self.registers:
            first = ops.concatenate([first, ops.convert_to_tensor(self.reg_token)], axis=1)
        # One row an image, without asking for the size of the batch, which exported formats do not know.
        first = first + ops.zeros_like(patches[:, :1])
        return ops.concatenate([first, patches], axis=1)

    def _positions(self, grid: tuple[int, int]) -> Any:
        learned = self.pos_embed[:, 1:]
        if grid == self.grid:
            return learned
        rows, columns = (interpolation(*sides) for sides in zip(self.grid, grid, strict=True))
        matrix = ops.convert_to_tensor(np.kron(rows, columns), learned.dtype)
        return ops.matmul(matrix, learned)

    def fit(self, arrays: list[np.ndarray]) -> list[np.ndarray] | None:
        """Another network's class token, positions and registers in the shapes of this layer, or None.

        Positions of a square grid are interpolated to this layer's grid; where the class token has none it gets zeros.
        """
        shapes = [tuple(weight.shape) for weight in self.weights]
        if len(arrays) != len(shapes):
            return None
        fitted = []
        for array, shape in zip(arrays, shapes, strict=True):
            if array.shape != shape and self.positions and shape[1] == 1 + math.prod(self.grid) and array.ndim == 3:
                side = math.isqrt(array.shape[1])
                first = array.shape[1] - side * side
                if first not in (0, 1):
                    return None
                own = array[:, :first] if first else np.zeros_like(array[:, :1])
                rows, columns = (interpolation(side, size) for size in self.grid)
                array = np.concatenate([own, np.kron(rows, columns) @ array[:, first:]], 1).astype(array.dtype)
            fitted.append(array)
        return fitted if [array.shape for array in fitted] == shapes else None

    def compute_output_shape(self, input_shape: Any) -> tuple:
        batch, height, width, channels = input_shape
        return batch, 1 + self.registers + height * width, channels

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "registers": self.registers,
            "positions": self.positions,
            "grid": self.grid if any(self.grid) else None,
        }


@cache
def interpolation(before: int, after: int) -> np.ndarray:
    """The `(after, before)` matrix of bicubic interpolation (a = -0.5), antialiased where it shrinks.

    This is what Pillow does to images and timm to positions.
    """
    scale = before / after
    stretch = max(scale, 1.0)
    centres = (np.arange(after) + 0.5) * scale
    x = np.abs((np.arange(before)[None] + 0.5 - centres[:, None]) / stretch)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return weights / weights.sum(axis=1, keepdims=True)


@keras.saving.register_keras_serializable("rsml")
class TokensToMap(keras.layers.Layer):
    """Lays the last tokens out as the map of patches; what stands before them (class token, registers) is left out.

    Input: `[tokens, patches]`, `(batch, tokens, channels)` and the map that the tokens were made from.

    Output shape: `(batch, height, width, channels)`.

    Examples:
        >>> tokens, patches = np.ones((1, 7, 8)), np.zeros((1, 3, 2, 8))
        >>> TokensToMap()([tokens, patches]).shape
        TensorShape([1, 3, 2, 8])
    """

    def call(self, inputs: Any) -> Any:
        tokens, patches = inputs
        height, width = patches.shape[1:3]
        return ops.reshape(tokens[:, -height * width :], (-1, height, width, tokens.shape[-1]))

    def compute_output_shape(self, input_shape: Any) -> tuple:
        tokens, patches = input_shape
        return tokens[0], *patches[1:3], tokens[-1]


@keras.saving.register_keras_serializable("rsml")
class MapToTokens(keras.layers.Layer):
    """Puts a map of patches back in the place of the last tokens; the tokens before them stay as they are.

    Args:
        stage: The stage of the network that ends at the map, or None.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input: `[tokens, map]`, `(batch, tokens, channels)` and `(batch, height, width, channels)`.

    Output shape: that of the tokens.

    Examples:
        >>> tokens, patches = np.zeros((1, 7, 8)), np.ones((1, 3, 2, 8))  # a class token and six patches
        >>> MapToTokens()([tokens, patches])[0, :, 0].numpy().tolist()
        [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, stage: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.stage = stage

    def call(self, inputs: Any) -> Any:
        tokens, patches = inputs
        height, width, channels = patches.shape[1:]
        before = tokens[:, : tokens.shape[1] - height * width]
        return ops.concatenate([before, ops.reshape(patches, (-1, height * width, channels))], axis=1)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stage": self.stage}


@keras.saving.register_keras_serializable("rsml")
class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a learned number, small in the beginning.

    Args:
        start: The number in the beginning.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: `(..., channels)`.

    Examples:
        >>> float(LayerScale(0.5)(np.ones((1, 4, 8)))[0, 0, 0])
        0.5

    Reference:
        Touvron et al., Going Deeper with Image Transformers, ICCV 2021.
    """

    def __init__(self, start: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight((input_shape[-1],), keras.initializers.Constant(self.start), name="gamma")

    def call(self, inputs: Any) -> Any:
        return inputs * self.gamma

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start}


@keras.saving.register_keras_serializable("rsml")
class MergeNeighbors(keras.layers.Layer):
    """Puts the channels of each 2 x 2 neighbours side by side: the upper left, the lower left, and the right ones.

    Zeros fill up an odd row or column.

    Input shape: `(batch, height, width, channels)`.

    Output shape: `(batch, ceil(height / 2), ceil(width / 2), 4 * channels)`.

    Examples:
        >>> MergeNeighbors()(np.arange(4.0).reshape(1, 2, 2, 1))[0, 0, 0].numpy().tolist()
        [0.0, 2.0, 1.0, 3.0]
    """

    def call(self, inputs: Any) -> Any:
        _, height, width, _ = inputs.shape
        if height % 2 or width % 2:
            inputs = ops.pad(inputs, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
        places = [inputs[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return ops.concatenate(places, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        batch, height, width, channels = input_shape
        return batch, -(-height // 2), -(-width // 2), 4 * channels
