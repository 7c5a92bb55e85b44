"""What the losses share: the precision they work in, and gradients that are known beforehand."""

from __future__ import annotations

from typing import Any

import keras
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

    @ops.custom_gradient
    def attach(_: Any) -> Any:
        # Keras hands the upstream gradient over by place or by name, as its backend does.
        return values, lambda *place, upstream=None: (place[0] if place else upstream)[:, None] * gradient

    return attach(inputs)


def choice(name: str, value: float, low: float, high: float = float("inf")) -> float:
    """Returns a constructor argument, or says in one line which range it had to lie in."""
    if not low <= value <= high:
        wanted = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
        raise ValueError(f"{name} must be {wanted}, found {value!r}")
    return value
