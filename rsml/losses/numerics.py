"""What the losses share: the precision they work in, and gradients that are known beforehand.

TensorFlow's `custom_gradient` stays: Keras's takes the values from the function that it wraps, which would be run again.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops


def working(tensor: Any) -> Any:
    """Casts half precision and integers up to float32; float32 and float64 stay as they are."""
    tensor = ops.convert_to_tensor(tensor)
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return tensor if dtype in ("float32", "float64") else ops.cast(tensor, "float32")


def with_gradient(inputs: Any, values: Any, gradient: Any) -> Any:
    """Values computed row by row from `inputs`, whose gradient is already at hand.

    Sums over pairs are the costly part of a ranking loss or of a memory bank, and hold the gradient's ingredients
    while they are in the cache. Computing both in one pass needs neither a second pass nor the pairs kept for later.
    The gradient is a constant to any further differentiation.

    Args:
        inputs: `(rows, width)`.
        values: `(rows,)`, the function of each row.
        gradient: `(rows, width)`, derivative of each value with respect to its own row.

    Returns:
        `(rows,)`, equal to `values`.
    """
    values, gradient = ops.stop_gradient(values), ops.stop_gradient(gradient)

    @tf.custom_gradient
    def attach(_: Any) -> Any:
        return values, lambda upstream: upstream[:, None] * gradient

    return attach(inputs)


def choice(name: str, value: float, low: float, high: float = float("inf")) -> float:
    """Returns a constructor argument, or says in one line which range it had to lie in."""
    if not low <= value <= high:
        wanted = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
        raise ValueError(f"{name} must be {wanted}, found {value!r}")
    return value
