"""Pieces that the families of backbones share, each with PyTorch's padding and numbers."""

from collections.abc import Callable
from typing import Any

import keras

from rsml.layers.tokens import LayerScale

Builder = Callable[[tuple[int, int], int], keras.Model]
"""Image size and bands to a network of scaled pixels that ends in a feature map."""


def initializer() -> keras.initializers.Initializer:
    """Random kernels of convolutions before ReLUs, depthwise ones too."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def scaled_pixels(image_size: tuple[int, int], bands: int) -> keras.KerasTensor:
    """The input of every backbone here."""
    return keras.Input((*image_size, bands), name="scaled")


def convolve(x: Any, width: int, kernel: int, stride: int, name: str, *, bias: bool = False) -> Any:
    """A convolution with zeros on both sides ("same" of Keras pads one side only where the stride is 2)."""
    if kernel > 1:
        x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return keras.layers.Conv2D(width, kernel, stride, use_bias=bias, kernel_initializer=initializer(), name=name)(x)


def batch_norm(x: Any, name: str) -> Any:
    """Batch normalisation with PyTorch's numbers."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def relu(x: Any, name: str) -> Any:
    """A ReLU of that name."""
    return keras.layers.ReLU(name=name)(x)


def layer_norm(x: Any, name: str, epsilon: float) -> Any:
    """Normalisation over channels."""
    return keras.layers.LayerNormalization(epsilon=epsilon, name=name)(x)


def patches(x: Any, width: int, size: int, name: str) -> Any:
    """Cuts a map into patches of `size` x `size`; rows and columns that fill no patch are left out."""
    return keras.layers.Conv2D(width, size, size, kernel_initializer="lecun_normal", name=name)(x)


def perceptron(x: Any, hidden: int, names: tuple[str, str]) -> Any:
    """Two dense layers with a GELU between."""
    normal = keras.initializers.TruncatedNormal(stddev=0.02)
    width = x.shape[-1]
    x = keras.layers.Dense(hidden, kernel_initializer=normal.clone(), name=names[0])(x)
    x = keras.layers.Activation("gelu", name=f"{names[0]}_gelu")(x)
    return keras.layers.Dense(width, kernel_initializer=normal.clone(), name=names[1])(x)


def add(shortcut: Any, x: Any, name: str, scale: tuple[str, float] | None = None) -> Any:
    """The end of a residual branch, scaled where `scale` gives the layer's name and the number it begins with."""
    if scale is not None:
        x = LayerScale(scale[1], name=scale[0])(x)
    return keras.layers.Add(name=name)([shortcut, x])
