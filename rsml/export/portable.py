"""The same model made of operations that every format has: no loops, no graph networks, float32 throughout."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from rsml.layers import SIGNA, LabelGraphClassifier


def portable(model: keras.Model) -> keras.Model:
    """Returns a model of the same outputs, fit for conversion; the given one stays as it is.

    Label graphs become constants, and GELU is written out. Layers of half precision become float32, which mobile
    runtimes want.
    """
    if not any(map(_needs_change, model.layers)):
        return model
    clone = keras.models.clone_model(model, clone_function=_portable_layer)
    for old, new in zip(model.layers, clone.layers, strict=True):
        if new is not old and type(new) is type(old):
            new.set_weights(old.get_weights())
    return clone


def kept_in_float(model: keras.Model) -> list[str]:
    """Names of the layers whose numbers need more than 8 bits."""
    return [layer.name for layer in model.layers if isinstance(layer, PortableSIGNA)]


def _needs_change(layer: keras.layers.Layer) -> bool:
    if isinstance(layer, SIGNA | LabelGraphClassifier) or _is_gelu(layer):
        return True
    return layer.compute_dtype in ("float16", "bfloat16")


def _is_gelu(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.gelu


def _portable_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    if isinstance(layer, SIGNA):
        return PortableSIGNA(layer)
    if isinstance(layer, LabelGraphClassifier):
        return _constant_classifier(layer)
    if _is_gelu(layer):
        return PortableGELU(name=layer.name, dtype="float32")
    if _needs_change(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})
    return layer


def _constant_classifier(layer: LabelGraphClassifier) -> keras.layers.Dense:
    """The classifiers that the label graph makes, as the kernel of a dense layer: what unit features give."""
    width = layer.graph_layers[-1].units
    kernel = ops.convert_to_numpy(layer(np.eye(width, dtype=np.float32)))
    dense = keras.layers.Dense(kernel.shape[1], use_bias=False, name=layer.name, dtype="float32")
    dense.build((None, width))
    dense.set_weights([kernel])
    return dense


class PortableGELU(keras.layers.Layer):
    """GELU by the error function; Keras takes its complement, which ONNX does not have."""

    def call(self, x: Any) -> Any:
        """The same numbers as `keras.activations.gelu`, to float precision."""
        return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))


class PortableSIGNA(keras.layers.Layer):
    """A trained SIGNA layer whose label graph is folded into constants and whose heads are written out.

    SIGNA works through blocks in a loop, to save memory in training; TFLite refuses that loop and ONNX loses its
    shapes. This one holds a `(batch, channels, channels)` softmax for one head after another.

    Args:
        trained: The layer whose outputs it gives.
    """

    def __init__(self, trained: SIGNA) -> None:
        super().__init__(name=trained.name, dtype="float32")
        self.residual, self.heads, self.labels = trained.residual, trained.heads, len(trained.graph)
        scale = math.sqrt(self.labels) if trained.logit_scale is None else trained.logit_scale
        keys = scale * _float64(trained.label_features())
        names = ("q_weight", "q_bias", "v_weight", "v_bias", "out_kernel", "out_bias")
        constants = {name: _float64(getattr(trained, name)) for name in names}
        self.shared = trained.expansion == "shared"
        if self.shared:
            # The logits of a head are of rank one plus a row: both follow from constants.
            constants["slope"] = np.einsum("hc,hcd->hd", constants.pop("q_weight"), keys)
            constants["offset"] = np.einsum("hc,hcd->hd", constants.pop("q_bias"), keys)
        else:
            constants["keys"] = keys
        self.constants = {name: value.astype(np.float32) for name, value in constants.items()}

    def call(self, features: Any) -> Any:
        given, channels = self.constants, features.shape[-1]
        z = ops.mean(features, axis=tuple(range(1, len(features.shape) - 1)))
        weights = given["out_bias"] + (1.0 if self.residual else 0.0)
        kernels = given["out_kernel"].reshape(self.heads, channels, channels)
        for head in range(self.heads):
            if self.shared:
                logits = z[:, :, None] * given["slope"][head][None, None] + given["offset"][head][None, None]
                mixed = given["v_weight"][head] * _attend(logits, z) + given["v_bias"][head]
            else:
                expanded = ops.matmul(z, given["q_weight"][head]) + given["q_bias"][head]
                logits = ops.matmul(ops.reshape(expanded, (-1, channels, self.labels)), given["keys"][head])
                mixed = _attend(logits, ops.matmul(z, given["v_weight"][head]) + given["v_bias"][head])
            weights = weights + ops.matmul(mixed, kernels[head])
        return features * ops.reshape(weights, (-1, *[1] * (len(features.shape) - 2), channels))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return tuple(input_shape)


def _attend(logits: Any, values: Any) -> Any:
    return ops.squeeze(ops.matmul(ops.softmax(logits, axis=-1), values[:, :, None]), -1)


def _float64(values: Any) -> np.ndarray:
    return ops.convert_to_numpy(values).astype(np.float64)
