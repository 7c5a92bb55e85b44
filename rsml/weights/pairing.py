"""Which layer of a file belongs to which of a model, by name or by order; its numbers in the model's shapes."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from rsml.layers.tokens import Tokens
from rsml.weights.arrays import snake_case
from rsml.weights.source_layer import SourceLayer


@dataclass
class Target:
    """A layer with weights that are asked for.

    Args:
        layer: The layer.
        kind: Its class in snake case.
        shapes: Shapes of its weights.
        simple: Whether no layer inside it has weights.
    """

    layer: keras.layers.Layer
    kind: str
    shapes: list[tuple]
    simple: bool

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name


def targets_of(model: keras.Model) -> Iterator[Target]:
    """The layers of a model that have weights, those of nested models in place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from targets_of(layer)
        elif layer.weights:
            simple = not any(inner.weights for inner in layer._flatten_layers(include_self=False))
            shapes = [tuple(variable.shape) for variable in layer.weights]
            yield Target(layer, snake_case(type(layer).__name__), shapes, simple)


def _key(name: str | None, kind: str) -> tuple[str, int] | None:
    """Number of a name that Keras made up for a class, else None."""
    found = re.fullmatch(rf"{re.escape(kind)}(?:_(\d+))?", name or "") if kind else None
    return (kind, int(found[1] or 0)) if found else None


def _labels(items: list) -> dict[str | tuple, Any]:
    """Items by name, where the made-up names are replaced by (class, rank among its class)."""
    result: dict[str | tuple, Any] = {}
    made_up: dict[str, list[tuple[int, Any]]] = {}
    for item in items:
        key = _key(item.name, item.kind)
        if key is None:
            result.setdefault(item.name, item)
        else:
            made_up.setdefault(key[0], []).append((key[1], item))
    for kind, numbered in made_up.items():
        for rank, (_, item) in enumerate(sorted(numbered, key=lambda pair: pair[0])):
            result[(kind, rank)] = item
    return result


def pair_by_name(targets: list[Target], layers: list[SourceLayer]) -> dict[str, tuple[Target, SourceLayer]]:
    """Pairs layers of one name; see `rsml.weights.load.load_weights` for names that Keras made up."""
    sources = _labels([layer for layer in layers if layer.name is not None])
    pairs = {}
    for key, target in _labels(targets).items():
        source = sources.get(key, sources.get(target.name) if isinstance(key, str) else None)
        if source is not None:
            pairs[target.name] = (target, source)
    return pairs


def pair_by_order(
    targets: list[Target], layers: list[SourceLayer], front: set[str]
) -> dict[str, tuple[Target, SourceLayer]]:
    """Pairs the n-th layer of a kind with the n-th of that kind; nothing where a convolution would be left out."""
    if any(layer.kind == "torch" for layer in layers):
        return {}
    classes_known = all(layer.kind for layer in layers)

    def groups(items: list) -> dict[tuple, list]:
        result: dict[tuple, list] = {}
        for item in items:
            shapes = item.shapes if isinstance(item, Target) else [array.shape for array in item.arrays]
            result.setdefault((item.kind if classes_known else "", tuple(map(len, shapes))), []).append(item)
        return result

    ours, theirs = groups(targets), groups(layers)
    pairs = {}
    for key, members in ours.items():
        others = theirs.get(key, [])
        fits = len(members) == len(others) and all(
            fit(target, source, front) is not None for target, source in zip(members, others, strict=True)
        )
        if fits:
            pairs.update({t.name: (t, s) for t, s in zip(members, others, strict=True)})
        elif 4 in key[1]:
            return {}
    return pairs if any(4 in key[1] for key in ours) else {}


def fit(target: Target, source: SourceLayer, front: Collection[str]) -> list[np.ndarray] | None:
    """The source's arrays in the shapes of the target, or None when they do not fit."""
    arrays = _keras_form(target, source)
    if [array.shape for array in arrays] == target.shapes:
        return arrays
    if isinstance(target.layer, Tokens) and source.kind in ("torch", target.kind):
        return target.layer.fit(arrays)
    if len(arrays) != len(target.shapes):
        return None
    if not target.simple:
        # The order in the file is alphabetical and that of the layer is not: shapes are compared again when loading.
        return arrays if Counter(array.shape for array in arrays) == Counter(target.shapes) else None
    if target.name not in front:
        return None
    fitted = []
    for array, shape in zip(arrays, target.shapes, strict=True):
        if array.shape == shape:
            fitted.append(array)
        elif target.kind == "conv2d" and array.ndim == 4 and array.shape[:2] + array.shape[3:] == shape[:2] + shape[3:]:
            fitted.append(adapt_bands(array, shape[2]))
        elif target.kind == "normalization" and array.ndim == len(shape) == 1:
            kept = array[: shape[0]]
            fitted.append(np.concatenate([kept, np.full(shape[0] - len(kept), array.mean(), array.dtype)]))
        else:
            return None
    return fitted


def _keras_form(target: Target, source: SourceLayer) -> list[np.ndarray]:
    """The source's arrays, those of PyTorch with the axes of the target's class."""
    return [_axes_of(target, array) for array in source.arrays] if source.kind == "torch" else source.arrays


def _axes_of(target: Target, array: np.ndarray) -> np.ndarray:
    if target.kind == "depthwise_conv2d" and array.ndim == 4:  # (height, width, 1, channels) there
        return array.swapaxes(2, 3)
    if target.kind == "conv2d" and array.ndim == 2 and array.size == math.prod(target.shapes[0]):
        # A dense layer on a flattened map, channels first, is a convolution over all of it.
        height, width, channels, filters = target.shapes[0]
        return array.reshape(channels, height, width, filters).transpose(1, 2, 0, 3)
    return array


def adaptation(target: Target, source: SourceLayer) -> str | None:
    """What `fit` changed, in words."""
    if not target.simple:
        return None
    for array, shape in zip(_keras_form(target, source), target.shapes, strict=True):
        if array.shape != shape:
            if array.ndim == 3:
                return f"from {array.shape[1]} to {shape[1]} positions"
            axis = 2 if array.ndim == 4 else 0
            return f"from {array.shape[axis]} to {shape[axis]} bands"
    return None


def adapt_bands(kernel: np.ndarray, bands: int) -> np.ndarray:
    """Fits the kernel of a first convolution to another number of bands.

    With more bands than before, the known ones (red, green, blue) keep their kernels in front and each further band
    gets their average. With fewer, but at least 3, the first ones stay; with 1 or 2, each band gets the average. All
    are multiplied by `bands before / bands now`, so that the response to an image keeps its size: one grey band answers
    exactly as the same grey in red, green and blue did.

    Args:
        kernel: `(height, width, bands before, filters)`.
        bands: The number of bands now.
    """
    before = kernel.shape[2]
    average = kernel.mean(axis=2, keepdims=True)
    kept = kernel[:, :, :bands] if bands >= min(before, 3) else kernel[:, :, :0]
    rest = np.repeat(average, bands - kept.shape[2], axis=2)
    return (np.concatenate([kept, rest], axis=2) * (before / bands)).astype(kernel.dtype)


def pick_bands(layers: Sequence[SourceLayer], bands: Sequence[int]) -> None:
    """Leaves the first convolution among layers some of its bands, multiplied as `adapt_bands` does."""
    for layer in layers:
        for place, array in layer.values.items():
            if array.ndim == 4:
                layer.values[place] = array[:, :, list(bands)] * np.float32(array.shape[2] / len(bands))
                return
