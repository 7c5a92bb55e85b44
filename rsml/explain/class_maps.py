"""Class maps of a network: where in an image the score of a label comes from (Grad-CAM, Grad-CAM++, LayerCAM).

tf-keras-vis explains one label a call and xplique brings OpenCV; here all labels of all images share one forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np
import tensorflow as tf

from rsml.data.spelling import match_label
from rsml.layers.scene_predictions import predictions_of
from rsml.models.surgery import Call, calls, rebuild, require_functional, resolve
from rsml.utils.errors import UserError
from rsml.utils.settings import nearest

Method = Literal["grad-cam", "grad-cam++", "layercam"]
METHODS: tuple[str, ...] = get_args(Method)
LEAST = 7
"""Rows and columns of a map from which on it says where something is."""


class ClassMaps:
    """Class maps of any labels for a batch of images, at any feature map of a classifier.

    The maps are those of the logits, whose sigmoid or softmax would scale all of a map alike.

    - "grad-cam": channels weighed by the mean of their gradient over the map.
    - "grad-cam++": by its positive part, more where the gradient is large.
    - "layercam": each place of each channel by its own positive gradient.

    Args:
        model: A classifier, as `rsml.load_model` gives it.
        after: A layer or stage whose output is explained, or tokens of a Vision Transformer, which are laid out as its
            patches. None: the deepest map of at least 7 x 7 that everything later passes through.
        method: "grad-cam", "grad-cam++" or "layercam".

    Examples:
        >>> maps = rsml.ClassMaps(rsml.load_model("checkpoint/scenes"))
        >>> maps(rsml.images("photos", size=96), ["water", "trees"]).shape
        (36, 2, 12, 12)

    Reference:
        Selvaraju et al., Grad-CAM, ICCV 2017. Chattopadhay et al., Grad-CAM++, WACV 2018. Jiang et al., LayerCAM,
        TIP 2021.
    """

    def __init__(self, model: keras.Model, after: str | None = None, method: Method = "grad-cam") -> None:
        if method not in METHODS:
            raise UserError(f"class maps: there is no method {method!r}{nearest(method, METHODS)}")
        require_functional(model)
        if any(isinstance(layer, keras.Model) for layer in model.layers):
            model = rebuild(model)
        last = predictions_of(model)
        self.model, self.method, self.labels = model, method, last.labels
        graph = calls(model)
        chosen = _find(model, graph, after)
        self.after = chosen.name
        tensor = chosen.outputs[0]
        self.grid = _grid(chosen, graph)
        self.size: Any = tuple(tensor.shape[1:3]) if chosen.is_map else self.grid
        logits = graph[next(call.inputs[0] for call in graph if call.layer is last)].outputs[0]
        self._both = keras.Model(model.input, [tensor, logits])
        self._compiled: dict[int, Callable[..., tf.Tensor]] = {}

    def __call__(
        self, images: Any, labels: Sequence[str | int] | None = None, *, batch_size: int = 32, scaled: bool = True
    ) -> np.ndarray:
        """Returns the maps `(images, labels, height, width)` float32, in the order of `labels`.

        Args:
            images: `(images, height, width, bands)` of 0 to 255, as the model takes them.
            labels: Names or column numbers; None explains every label.
            batch_size: Images a step.
            scaled: Divide each map by its greatest value, so that it reaches from 0 to 1.
        """
        which = tf.constant(self.columns(labels), tf.int32)
        explain = self._explain(len(which))
        images = np.asarray(images)
        blocks = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
        made = [explain(tf.convert_to_tensor(block, tf.float32), which).numpy() for block in blocks]
        maps = np.concatenate(made) if made else np.zeros((0, len(which), *self.size), np.float32)
        if scaled:
            maps /= np.maximum(maps.max((2, 3), keepdims=True), np.finfo(np.float32).tiny)
        return maps

    def columns(self, labels: Sequence[str | int] | None) -> list[int]:
        """Column numbers of labels given by name (in any spelling) or number."""
        if labels is None:
            return list(range(len(self.labels)))
        if isinstance(labels, str) or not len(labels):
            raise UserError(f"class maps: expected a list of labels, found {labels!r}")
        return [self._column(label) for label in labels]

    def _column(self, label: str | int) -> int:
        if isinstance(label, (int, np.integer)) and not isinstance(label, bool):
            if not 0 <= label < len(self.labels):
                raise UserError(f"label {label}: the model has {len(self.labels)}, counted from 0")
            return int(label)
        name = match_label(str(label), self.labels)
        if name is None:
            raise UserError(f"label '{label}': the model has no such label{nearest(str(label), self.labels)}")
        return self.labels.index(name)

    def _explain(self, count: int) -> Callable[..., tf.Tensor]:
        """The maps of so many labels as one graph, whatever the number of images."""
        if count not in self._compiled:
            sizes = [(None, *self.model.input_shape[1:]), (count,)]
            signature = [tf.TensorSpec(sizes[0], tf.float32), tf.TensorSpec(sizes[1], tf.int32)]
            self._compiled[count] = tf.function(self._maps, input_signature=signature)
        return self._compiled[count]

    def _maps(self, images: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            # Only gradients with respect to the map are taken; watching the images makes the tape see it.
            tape.watch(images)
            maps, logits = self._both(images, training=False)
            # Images do not mix outside training, so that the sum's gradient holds each image's own.
            chosen = tf.gather(tf.reduce_sum(logits, 0), which)
            each = tf.unstack(chosen, which.shape[0])
        shown = self._laid_out(tf.cast(maps, tf.float32))
        weigh = _WEIGHTS[self.method]
        made = []
        for score in each:
            gradient = self._laid_out(tf.cast(tape.gradient(score, maps), tf.float32))
            made.append(tf.nn.relu(tf.reduce_sum(weigh(gradient, shown) * shown, -1)))
        return tf.stack(made, 1)

    def _laid_out(self, maps: tf.Tensor) -> tf.Tensor:
        if self.grid is None:
            return maps
        height, width = self.grid
        return tf.reshape(maps[:, -height * width :], (-1, height, width, maps.shape[-1]))


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps `(..., h, w)` at another size, bilinear.

    Examples:
        >>> resized(np.ones((2, 3, 7, 7)), (64, 64)).shape
        (2, 3, 64, 64)
    """
    flat = tf.reshape(tf.convert_to_tensor(maps, tf.float32), (-1, *maps.shape[-2:], 1))
    return tf.image.resize(flat, size).numpy().reshape(*maps.shape[:-2], *size)


def _pooled(gradient: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(gradient, (1, 2), keepdims=True)


def _second_order(gradient: tf.Tensor, maps: tf.Tensor) -> tf.Tensor:
    # Of exp(score) the second and third derivatives are powers of the first, and the exponential itself cancels.
    squared = gradient**2
    total = tf.reduce_sum(maps, (1, 2), keepdims=True)
    share = tf.math.divide_no_nan(squared, 2 * squared + total * gradient * squared)
    return tf.reduce_sum(share * tf.nn.relu(gradient), (1, 2), keepdims=True)


def _in_place(gradient: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(gradient)


_WEIGHTS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "grad-cam": _pooled,
    "grad-cam++": _second_order,
    "layercam": _in_place,
}


def _find(model: keras.Model, graph: list[Call], after: str | None) -> Call:
    maps = [call for call in graph if call.is_map and not call.layer_is_input and _known(call)]
    trunk = [call for call in maps if call.bottleneck]
    # A map of one pixel is a gate or a pooled vector, and explains nothing.
    trunk = [call for call in trunk if min(call.outputs[0].shape[1:3]) > 1] or trunk
    if not trunk:
        raise UserError(f"{model.name}: has no feature map of a known height and width, so no class maps; give another")
    if after is None:
        large = [call for call in trunk if min(call.outputs[0].shape[1:3]) >= LEAST]
        return large[-1] if large else max(trunk, key=lambda call: min(call.outputs[0].shape[1:3]))
    name = resolve(model, after)
    found = next(call for call in reversed(graph) if call.name == name)
    if (not found.is_map or not _known(found)) and _grid(found, graph) is None:
        shown = list(dict.fromkeys(call.name for call in reversed(trunk)))[:6]
        shape = " x ".join(str(side) for side in found.outputs[0].shape[1:])
        raise UserError(
            f"layer '{name}': its output ({shape}) is no feature map; choose one of those that are, "
            f"for instance {', '.join(shown)}"
        )
    return found


def _known(call: Call) -> bool:
    return all(call.outputs[0].shape[1:])


def _grid(call: Call, graph: list[Call]) -> tuple[int, int] | None:
    """Height and width of the patches that the last of some tokens are; None for what is no sequence of tokens."""
    shape = call.outputs[0].shape
    if len(call.outputs) != 1 or len(shape) != 3 or not all(shape[1:]):
        return None
    grids = {tuple(other.outputs[0].shape[1:3]) for other in graph if other.is_map and _known(other)}
    # Before the patches stand a class token and registers, a handful.
    fitting = [grid for grid in grids if 0 <= shape[1] - math.prod(grid) <= 8 and math.prod(grid) > 1]
    return max(fitting, key=math.prod, default=None)
