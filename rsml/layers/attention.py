"""Self-attention over tokens and over shifted windows of a feature map, in plain operations that export."""

import math
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops


class _Attention(keras.layers.Layer):
    """What both share: fused query, key and value, and the projection behind."""

    def __init__(self, heads: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = int(heads)

    def _build_projections(self, channels: int) -> None:
        if channels % self.heads:
            raise ValueError(f"{type(self).__name__}: {channels} channels do not divide by {self.heads} heads")
        self.qkv_weight = self.add_weight((channels, 3 * channels), "glorot_uniform", name="qkv_weight")
        self.qkv_bias = self.add_weight((3 * channels,), "zeros", name="qkv_bias")
        self.proj_weight = self.add_weight((channels, channels), "glorot_uniform", name="proj_weight")
        self.proj_bias = self.add_weight((channels,), "zeros", name="proj_bias")

    def _split(self, x: Any, bias: Any) -> list[Any]:
        """`(..., tokens, channels)` to query, key and value, each `(..., heads, tokens, channels / heads)`."""
        shape, channels = x.shape, x.shape[-1]
        x = ops.matmul(x, self.qkv_weight) + bias
        pieces = (x[..., place * channels : (place + 1) * channels] for place in range(3))
        inner = (-1, *shape[1:-1], self.heads, channels // self.heads)
        axes = (*range(len(inner) - 3), len(inner) - 2, len(inner) - 3, len(inner) - 1)
        return [ops.transpose(ops.reshape(piece, inner), axes) for piece in pieces]

    def _attend(self, scores: Any, value: Any) -> Any:
        """Scores and values to the projected `(..., tokens, channels)`; the softmax is taken in float32."""
        share = ops.cast(ops.softmax(ops.cast(scores, "float32")), value.dtype)
        x = ops.matmul(share, value)
        rank = len(x.shape)
        x = ops.transpose(x, (*range(rank - 3), rank - 2, rank - 3, rank - 1))
        x = ops.reshape(x, (-1, *x.shape[1:-2], x.shape[-2] * x.shape[-1]))
        return ops.matmul(x, self.proj_weight) + self.proj_bias

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


@keras.saving.register_keras_serializable("rsml")
class SelfAttention(_Attention):
    """Multi-head self-attention of every token to every token.

    Args:
        heads: Number of heads.
        rotary: Turn queries and keys of patches by their place, as DINOv3 does. The layer then takes
            `[tokens, patches]`, where `patches` is a feature map whose height and width the last tokens fill.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: `(batch, tokens, channels)`.

    Examples:
        >>> SelfAttention(heads=2)(keras.ops.ones((1, 5, 8))).shape
        TensorShape([1, 5, 8])

    Reference:
        Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021. Simeoni et al., DINOv3, 2025.
    """

    def __init__(self, heads: int, rotary: bool = False, **kwargs: Any):
        super().__init__(heads, **kwargs)
        self.rotary = rotary

    def build(self, input_shape: Any) -> None:
        self._build_projections((input_shape[0] if self.rotary else input_shape)[-1])

    def call(self, inputs: Any) -> Any:
        tokens, patches = inputs if self.rotary else (inputs, None)
        query, key, value = self._split(tokens, self.qkv_bias)
        if patches is not None:
            query, key = (_rotate(x, patches.shape[1:3]) for x in (query, key))
        query = query * (query.shape[-1] ** -0.5)
        return self._attend(ops.matmul(query, ops.swapaxes(key, -2, -1)), value)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return tuple(input_shape[0] if self.rotary else input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rotary": self.rotary}


def _rotate(x: Any, grid: tuple[int, int]) -> Any:
    """Turns the patches among `(batch, heads, tokens, channels)`, which are the last tokens."""
    sine, cosine = rotation(*grid, x.shape[-1])
    first = x.shape[-2] - len(sine)
    before = np.zeros((first, x.shape[-1]), "float32")
    sine, cosine = np.concatenate([before, sine]), np.concatenate([before + 1, cosine])
    half = x.shape[-1] // 2
    turned = ops.concatenate([-x[..., half:], x[..., :half]], -1)
    return x * ops.convert_to_tensor(cosine, x.dtype) + turned * ops.convert_to_tensor(sine, x.dtype)


@cache
def rotation(height: int, width: int, channels: int, base: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    """Sines and cosines `(height * width, channels)` of DINOv3's rotary positions: rows, columns, and both again."""
    places = [(np.arange(side) + 0.5) / side * 2 - 1 for side in (height, width)]
    grid = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, 2, 1)
    angles = 2 * np.pi * grid / base ** (np.arange(channels // 4) * 4 / channels)
    angles = np.tile(angles.reshape(len(grid), -1), 2)
    return np.sin(angles).astype("float32"), np.cos(angles).astype("float32")


@keras.saving.register_keras_serializable("rsml")
class WindowAttention(_Attention):
    """Multi-head self-attention inside the windows of a feature map, shifted or not, as Swin Transformers have it.

    Maps of any size: they are padded to whole windows, and a window as large as the map is not shifted.

    Args:
        heads: Number of heads.
        window: Side of a window.
        shift: Rows and columns that windows are shifted by.
        cosine: Swin V2's form: cosines of queries and keys with a learned scale, and the bias of relative positions
            from a small network on their logarithms. Else Swin's own: scaled products and a table of biases.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input and output shape: `(batch, height, width, channels)`.

    Examples:
        >>> WindowAttention(heads=2, window=4, shift=2)(keras.ops.ones((1, 9, 7, 8))).shape
        TensorShape([1, 9, 7, 8])

    Reference:
        Liu et al., Swin Transformer, ICCV 2021, and Swin Transformer V2, CVPR 2022.
    """

    def __init__(self, heads: int, window: int = 7, shift: int = 0, cosine: bool = False, **kwargs: Any):
        super().__init__(heads, **kwargs)
        self.window, self.shift, self.cosine = window, shift, cosine

    def build(self, input_shape: Any) -> None:
        self._build_projections(input_shape[-1])
        if self.cosine:
            self.logit_scale = self.add_weight(
                (self.heads, 1, 1), keras.initializers.Constant(math.log(10)), name="logit_scale"
            )
            self.first_weight = self.add_weight((2, 512), "glorot_uniform", name="cpb_mlp_0_weight")
            self.first_bias = self.add_weight((512,), "zeros", name="cpb_mlp_0_bias")
            self.second_weight = self.add_weight((512, self.heads), "glorot_uniform", name="cpb_mlp_2_weight")
        else:
            normal = keras.initializers.TruncatedNormal(stddev=0.02)
            shape = ((2 * self.window - 1) ** 2, self.heads)
            self.table = self.add_weight(shape, normal, name="relative_position_bias_table")

    def call(self, inputs: Any) -> Any:
        (height, width, channels), side = inputs.shape[1:], self.window
        rows, columns = (math.ceil(size / side) for size in (height, width))
        padded = (rows * side, columns * side)
        x = ops.pad(inputs, ((0, 0), (0, padded[0] - height), (0, padded[1] - width), (0, 0)))
        shifts = tuple(0 if side >= size else self.shift for size in padded)
        x = _roll(x, shifts)
        x = ops.transpose(ops.reshape(x, (-1, rows, side, columns, side, channels)), (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, rows * columns, side * side, channels))
        bias = self.qkv_bias
        if self.cosine:  # keys have no bias
            bias = ops.concatenate([bias[:channels], ops.zeros_like(bias[:channels]), bias[2 * channels :]])
        query, key, value = self._split(x, bias)
        if self.cosine:
            scale = ops.exp(ops.minimum(self.logit_scale, math.log(100.0)))
            query, key = _unit(query) * ops.cast(scale, query.dtype), _unit(key)
        else:
            query = query * ((channels // self.heads) ** -0.5)
        scores = ops.matmul(query, ops.swapaxes(key, -2, -1)) + self._position_bias()
        if any(shifts):
            scores = scores + ops.convert_to_tensor(_mask(*padded, side, shifts), scores.dtype)
        x = self._attend(scores, value)
        x = ops.transpose(ops.reshape(x, (-1, rows, columns, side, side, channels)), (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, *padded, channels))
        x = _roll(x, tuple(size - shift for size, shift in zip(padded, shifts, strict=True)))
        return x[:, :height, :width]

    def _position_bias(self) -> Any:
        """`(heads, tokens, tokens)` of a window."""
        table = self._computed_table() if self.cosine else self.table
        tokens = self.window**2
        chosen = ops.take(table, _relative_places(self.window).ravel(), axis=0)
        bias = ops.transpose(ops.reshape(chosen, (tokens, tokens, self.heads)), (2, 0, 1))
        return ops.cast(16 * ops.sigmoid(bias) if self.cosine else bias, self.compute_dtype)

    def _computed_table(self) -> Any:
        steps = np.arange(1 - self.window, self.window) / (self.window - 1) * 8
        steps = np.sign(steps) * np.log2(np.abs(steps) + 1) / 3
        places = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
        hidden = ops.matmul(ops.convert_to_tensor(places, self.compute_dtype), self.first_weight)
        return ops.matmul(ops.relu(hidden + self.first_bias), self.second_weight)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "window": self.window, "shift": self.shift, "cosine": self.cosine}


def _unit(x: Any) -> Any:
    exact = ops.cast(x, "float32")  # squares overflow float16
    length = ops.sqrt(ops.maximum(ops.sum(exact * exact, -1, keepdims=True), 1e-24))
    return ops.cast(exact / length, x.dtype)


def _roll(x: Any, shifts: tuple[int, ...]) -> Any:
    """Moves rows and columns up and left, around the border; two slices, which every exported format knows."""
    for axis, shift in enumerate(shifts, start=1):
        size = x.shape[axis]
        if shift % size:
            first, rest = ((slice(None),) * axis + (part,) for part in (slice(shift, size), slice(0, shift)))
            x = ops.concatenate([x[first], x[rest]], axis)
    return x


@cache
def _relative_places(window: int) -> np.ndarray:
    """`(tokens, tokens)`: which row of the table is the place of one token seen from another."""
    place = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    row, column = place[:, :, None] - place[:, None, :] + window - 1
    return row * (2 * window - 1) + column


@cache
def _mask(height: int, width: int, window: int, shifts: tuple[int, ...]) -> np.ndarray:
    """`(windows, 1, tokens, tokens)`: -100 between tokens that only the shift brought together."""
    region: np.ndarray = np.zeros((height, width))
    for count, (rows, columns) in enumerate(
        (rows, columns)
        for rows in (slice(0, -window), slice(-window, -shifts[0]), slice(-shifts[0], None))
        for columns in (slice(0, -window), slice(-window, -shifts[1]), slice(-shifts[1], None))
    ):
        region[rows, columns] = count
    windows = region.reshape(height // window, window, width // window, window).transpose(0, 2, 1, 3)
    tokens = windows.reshape(-1, 1, window * window)
    return np.where(tokens != tokens.transpose(0, 2, 1), -100.0, 0.0).astype("float32")[:, None]
