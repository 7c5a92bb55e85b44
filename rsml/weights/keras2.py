"""Rebuild the whole models that Keras 2 wrote to HDF5 with today's layers; nothing in the file is executed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from rsml.utils.errors import UserError
from rsml.utils.guard.faults import Refusal
from rsml.utils.guard.hdf5_files import open_hdf5, read_array
from rsml.utils.text import in_a_line
from rsml.weights.arrays import attribute_names

# Layers whose options and weights mean today what they meant then. Nothing else is ever built from an old file.
_LAYERS = """
    Dense Activation ReLU LeakyReLU PReLU ELU Softmax Dropout SpatialDropout2D GaussianNoise GaussianDropout
    Conv2D DepthwiseConv2D SeparableConv2D Conv2DTranspose BatchNormalization LayerNormalization Rescaling
    MaxPooling2D AveragePooling2D GlobalAveragePooling2D GlobalMaxPooling2D ZeroPadding2D Cropping2D UpSampling2D
    Flatten Reshape Permute RepeatVector Add Subtract Multiply Average Maximum Minimum Concatenate Dot
"""
_OTHER_NAMES = {"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization"}
_ACTIVATIONS = """
    linear relu relu6 softmax sigmoid tanh elu selu softplus softsign swish silu gelu exponential hard_sigmoid
"""
_GRAPHS = ("Model", "Functional", "Network")
_MODELS = (*_GRAPHS, "Sequential")

# Options without a say in what a trained layer computes, or that say what holds anyway.
_IDLE = frozenset({"batch_input_shape", "batch_shape", "dtype", "seed", "fused", "renorm_momentum"})
_IDLE_ENDS = ("_initializer", "_regularizer", "_constraint")


def is_legacy(path: Path) -> bool:
    """Whether a file is a whole model in HDF5 that Keras wrote before its version 3; a damaged one is a `Damaged`."""
    if not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        if "model_config" not in file.attrs:
            return False
        version = file.attrs.get("keras_version", file.get("model_weights", file).attrs.get("keras_version", "1"))
    number = re.match(r"\d{0,9}", version.decode("utf-8") if isinstance(version, bytes) else str(version))
    return int(number[0] if number and number[0] else 1) < 3


def load_legacy(path: Path, config: dict[str, Any]) -> keras.Model:
    """Builds the model of an old file with its weights, in float32 and not compiled.

    The architecture is read as data and mapped onto known layers one by one. Custom losses, metrics and the optimizer
    are not looked at; regularizers and initializers, which a trained model has no use for, are left out.

    Args:
        path: The HDF5 file.
        config: The architecture in it (see `rsml.weights.models.model_config`).
    """
    model = build_legacy(path, config)
    with _as_old_model(path), open_hdf5(path) as file:
        _load(model, file["model_weights"])
    return model


def build_legacy(path: Path, config: dict[str, Any]) -> keras.Model:
    """Builds the network of an old file, without its weights; see `load_legacy`."""
    with _as_old_model(path):
        return _build(config)


@contextmanager
def _as_old_model(path: Path) -> Iterator[None]:
    try:
        yield
    except _Unknown as fault:
        raise UserError(f"{path}: {fault}") from None
    except UserError:
        raise
    except Exception as error:
        # Where the config or the groups are not as Keras writes them, nearly anything may be missing.
        raise UserError(
            f"{path} is damaged or no model of Keras 2: {type(error).__name__}: {in_a_line(error)}"
        ) from None


class _Unknown(Refusal):
    """Something in an old file that has no counterpart here, in words."""


# ---- architecture ---------------------------------------------------------------------------------------------------


def _build(config: dict[str, Any]) -> keras.Model:
    kind, inner = config["class_name"], config["config"]
    if kind == "Sequential":
        # Before Keras 2.2.3 the config of a Sequential was the bare list of its layers.
        entries = inner if isinstance(inner, list) else inner["layers"]
        name = config.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
        return _sequential(entries, name)
    if kind in _GRAPHS:
        return _Graph(inner).model
    raise _Unknown(f"its model is a {kind}, which is not known here; save it as a functional or sequential model")


def _sequential(entries: list[dict[str, Any]], name: str | None) -> keras.Model:
    shape = _input_shape(entries[0])
    image = keras.Input(batch_shape=shape, name=f"{name or 'sequential'}_input")
    x = image
    for entry in entries:
        if entry["class_name"] != "InputLayer":
            x = _layer(entry)(x)
    return keras.Model(image, x, name=name)


def _input_shape(entry: dict[str, Any]) -> list[int | None]:
    """The shape a model takes, kept at its first layer, or that of the model which is its first layer."""
    config = entry["config"]
    if entry["class_name"] in _MODELS:
        return _input_shape((config if isinstance(config, list) else config["layers"])[0])
    shape = config.get("batch_input_shape") or config.get("batch_shape")
    if not isinstance(shape, list) or len(shape) < 2:
        raise _Unknown("it does not keep the size of its input; save it again after it was built")
    return [None, *_unwrapped(shape)[1:]]


class _Graph:
    """A functional model, put together call by call.

    Args:
        config: Its layers, each with the calls made of it, and which outputs are the model's.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.layers: dict[str, keras.layers.Layer] = {}
        self.outputs: dict[str, list[list[Any]]] = {}
        ends = [self._ends(config[key]) for key in ("input_layers", "output_layers")]
        entries = config["layers"]
        sources = [source for entry in entries for node in entry["inbound_nodes"] for source in node]
        self.first: dict[str, int] = {}
        for name, index, *_ in (*sources, *ends[0], *ends[1]):
            self.first[name] = min(index, self.first.get(name, index))
        for entry in entries:
            name = entry.get("name") or entry["config"]["name"]
            self.outputs[name] = []
            if entry["class_name"] == "InputLayer":
                self.outputs[name].append([keras.Input(batch_shape=_input_shape(entry), name=name)])
            else:
                self.layers[name] = _layer(entry)
        self._call([(entry.get("name") or entry["config"]["name"], node) for entry in entries
                    for node in entry["inbound_nodes"]])  # fmt: skip
        inputs, outputs = ([self._tensor(*end[:3]) for end in each] for each in ends)
        self.model = keras.Model(_single(inputs), _single(outputs), name=config.get("name"))

    @staticmethod
    def _ends(given: list[Any]) -> list[list[Any]]:
        return [given] if given and isinstance(given[0], str) else given

    def _call(self, waiting: list[tuple[str, list[Any]]]) -> None:
        while waiting:
            later: list[tuple[str, list[Any]]] = []
            for name, node in waiting:
                # The calls of one layer are numbered in order, so one that waits holds back those after it.
                held = any(name == other for other, _ in later)
                if held or not all(self._is_there(*source[:2]) for source in node):
                    later.append((name, node))
                else:
                    self.outputs[name].append(self._called(name, node))
            if len(later) == len(waiting):
                raise _Unknown(f"its graph is broken: nothing leads to the layer {later[0][0]!r}")
            waiting = later

    def _called(self, name: str, node: list[Any]) -> list[Any]:
        options: dict[str, Any] = {}
        for source in node:
            for key, value in (source[3] if len(source) > 3 else {}).items():
                if key == "training" and value in (True, False):
                    options["training"] = bool(value)
                elif value is not None:
                    raise _Unknown(f"the layer {name!r} is called with {key}=, which is not known here")
        layer = self.layers[name]
        if "training" in options and not isinstance(layer, keras.Model):
            options = options if "training" in inspect.signature(layer.call).parameters else {}
        outputs = layer(_single([self._tensor(*source[:3]) for source in node]), **options)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    def _place(self, name: str, index: int) -> int:
        # Keras counted the making of a nested model as its call 0, so its first use in a graph is call 1.
        return index - self.first[name] if isinstance(self.layers.get(name), keras.Model) else index

    def _is_there(self, name: str, index: int) -> bool:
        return self._place(name, index) < len(self.outputs.get(name, []))

    def _tensor(self, name: str, index: int, which: int) -> Any:
        return self.outputs[name][self._place(name, index)][which]


def _single(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _layer(entry: dict[str, Any]) -> keras.layers.Layer:
    kind = _OTHER_NAMES.get(entry["class_name"], entry["class_name"])
    if kind in _MODELS:
        return _build({**entry, "class_name": kind})
    name = entry["config"].get("name") or entry.get("name")
    if kind not in _LAYERS.split():
        raise _Unknown(
            f"its layer {name!r} is a {kind}, which is not built from files of Keras 2; leave it out and save the "
            "model again with the Keras that made it"
        )
    made = getattr(keras.layers, kind)
    known = {*inspect.signature(made.__init__).parameters, "name", "trainable"} - {"self", "kwargs"}
    options = {}
    for key, value in entry["config"].items():
        key, value = _today(kind, key), _unwrapped(value)
        if key in _IDLE or key.endswith(_IDLE_ENDS):
            continue
        if key in known:
            options[key] = _option(str(name), key, value)
        elif value and (key, value) != ("groups", 1):
            raise _Unknown(f"its layer {name!r} ({kind}) has the option {key}={value!r}, which Keras 3 does not know")
    return made(**options)


def _today(kind: str, key: str) -> str:
    return "negative_slope" if (kind, key) == ("LeakyReLU", "alpha") else key


def _option(name: str, key: str, value: Any) -> Any:
    if key == "data_format" and value == "channels_first":
        raise _Unknown(f"its layer {name!r} wants channels first; TensorFlow on a CPU has no such convolution")
    if key == "activation" and not (value is None or (isinstance(value, str) and value in _ACTIVATIONS.split())):
        raise _Unknown(f"its layer {name!r} has the activation {value!r}; known are {', '.join(_ACTIVATIONS.split())}")
    if key == "axis" and isinstance(value, list) and len(value) == 1:
        return value[0]
    return value


def _unwrapped(value: Any) -> Any:
    """A value as it was before it was written: arrays and tuples were wrapped in dictionaries."""
    if isinstance(value, dict):
        if value.get("type") == "ndarray" or value.get("class_name") == "__numpy__":
            return _unwrapped(value["value"] if "value" in value else value["config"]["value"])
        if value.get("class_name") == "__tuple__":
            return [_unwrapped(item) for item in value["items"]]
        if isinstance(value.get("config"), str) or value.get("class_name") in _ACTIVATIONS.split():
            return value["config"] if isinstance(value.get("config"), str) else value["class_name"]
    return [_unwrapped(item) for item in value] if isinstance(value, list) else value


# ---- weights --------------------------------------------------------------------------------------------------------


def _load(model: keras.Model, groups: h5py.Group) -> None:
    names = set(attribute_names(groups, "layer_names"))
    for layer in model.layers:
        arrays = {}
        if layer.name in names:
            group = groups[layer.name]
            arrays = {weight: read_array(group[weight]) for weight in attribute_names(group, "weight_names")}
        if isinstance(layer, keras.Model):
            _load_nested(layer, arrays)
        else:
            _set(layer, list(arrays.values()))


def _load_nested(model: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """A nested model has one group for all its layers; the names in it say whose an array is, else the order does."""
    leaves = [leaf for leaf in _leaves(model) if leaf.weights]
    owned: dict[str, list[np.ndarray]] = {}
    for name, array in arrays.items():
        owned.setdefault(name.split("/")[-2] if "/" in name else "", []).append(array)
    names = {leaf.name for leaf in leaves}
    if owned.keys() == names and len(names) == len(leaves):
        for leaf in leaves:
            _set(leaf, owned[leaf.name])
        return
    # Keras wrote all that trains first, then all that does not; a frozen layer's weights are of the second kind.
    places = [(leaf, index, _trains(leaf, index)) for leaf in leaves for index in range(len(leaf.weights))]
    ordered = [place for place in places if place[2]] + [place for place in places if not place[2]]
    if len(ordered) != len(arrays):
        raise _Unknown(f"it holds {len(arrays)} arrays for the model {model.name!r} in it, which has {len(ordered)}")
    values = {(id(leaf), index): array for (leaf, index, _), array in zip(ordered, arrays.values(), strict=True)}
    for leaf in leaves:
        _set(leaf, [values[id(leaf), index] for index in range(len(leaf.weights))])


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _trains(layer: keras.layers.Layer, index: int) -> bool:
    return any(layer.weights[index] is weight for weight in layer.trainable_weights)


def _set(layer: keras.layers.Layer, arrays: list[np.ndarray]) -> None:
    ours, theirs = [tuple(weight.shape) for weight in layer.weights], [array.shape for array in arrays]
    if ours != theirs:
        raise _Unknown(f"its layer {layer.name!r} holds arrays of {theirs}, expected {ours}; the file is damaged")
    if arrays:
        layer.set_weights(arrays)
