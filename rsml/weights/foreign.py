"""Make a classifier that rsml did not train into one of its own: raw pixels in, named probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import keras

from rsml.layers import Preprocess, ScenePredictions
from rsml.layers.preprocess import MODES
from rsml.models.backbones import compose, pixels_of, preprocess_layer
from rsml.models.surgery import calls, rebuild, require_functional
from rsml.tasks import Task
from rsml.utils.errors import UserError
from rsml.utils.settings import nearest

_TASKS: dict[str, Task] = {"softmax": "single-label", "sigmoid": "multi-label"}
# What may stand between the last activation and the output: it moves numbers and does not change them.
_MOVES = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Dropout, keras.layers.Identity)


def as_scene_classifier(
    model: keras.Model,
    title: str,
    *,
    labels: Sequence[str] | None,
    task: Literal["single-label", "multi-label"] | None = None,
    preprocess: str | Preprocess | None = None,
    image_size: tuple[int, int] | None = None,
    file: Path | None = None,
) -> keras.Model:
    """Puts preprocessing in front of a classifier and `ScenePredictions` behind it.

    The softmax or sigmoid it ends in is taken out, and tells the task: `ScenePredictions` does the same in float32. The
    result is a new flat model, with the weights of the old one.

    Args:
        model: A functional or sequential model: images to `(batch, classes)`.
        title: What it is called.
        labels: Names of its classes, in its order.
        task: Needed where its last layer has no softmax or sigmoid, so that its outputs are logits.
        preprocess: How it wants its pixels (see `Preprocess`), unless it scales them itself or `file` tells.
        image_size: Height and width of its images, where it takes any.
        file: The file it comes from.
    """
    try:
        require_functional(model)
    except UserError as fault:
        raise UserError(f"{title}: {fault}") from None
    size, bands = _images(model, title, image_size)
    count = _classes(model, title)
    if labels is None:
        raise UserError(
            f"{title} names no labels; it has {count} classes: name them in its order, once, with "
            f"rsml convert {title} OUT.keras --class-names NAMES (a,b,c, a file with one name a line, or the folder of "
            "class folders that it learned from)"
        )
    if len(labels) != count:
        raise UserError(
            f"{title} has {count} classes, but there are {len(labels)} label names ({', '.join(labels[:3])}"
            f"{', ...' if len(labels) > 3 else ''}); give one name a class, in the model's order"
        )
    flat, activation = _without_last_activation(rebuild(model))
    task = _task(title, activation, task)
    if isinstance(preprocess, str) and preprocess not in MODES:
        raise UserError(f"there is no preprocessing '{preprocess}'{nearest(preprocess, MODES)}")
    preprocess = pixels_of(title, flat, preprocess, file)
    core = compose(title, flat, size, bands, preprocess_layer(preprocess, bands))
    about = {"made_from": title, "bands": bands}
    scores = ScenePredictions(list(labels), task, metadata=about, name="predictions")(core.output)
    return _copy(keras.Model(core.input, scores, name="rsml_classifier"))


def _images(model: keras.Model, title: str, image_size: tuple[int, int] | None) -> tuple[tuple[int, int], int]:
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in model.inputs)
        raise UserError(f"{title} takes {shapes}; a scene classifier takes one input of (batch, height, width, bands)")
    _, height, width, bands = model.inputs[0].shape
    if not bands:
        raise UserError(f"{title} does not say how many bands its images have; save it with a known number")
    if not (height and width):
        if image_size is None:
            raise UserError(f"{title} takes images of any size; say which it learned with --image-size, e.g. 224")
        return (height or image_size[0], width or image_size[1]), bands
    if image_size not in (None, (height, width)):
        raise UserError(f"{title} takes images of {height} x {width} only; leave out --image-size")
    return (height, width), bands


def _classes(model: keras.Model, title: str) -> int:
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2 or not model.outputs[0].shape[1]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in model.outputs)
        raise UserError(f"{title} gives {shapes}; a classifier gives one output of (batch, classes)")
    return model.outputs[0].shape[1]


def _without_last_activation(model: keras.Model) -> tuple[keras.Model, str | None]:
    """The model up to its logits, and the activation that was behind them."""
    listed = calls(model)
    owners = {id(tensor): call for call in listed for tensor in call.outputs}
    last = owners[id(model.outputs[0])]
    while isinstance(last.layer, _MOVES) and last.inputs:
        last = listed[last.inputs[0]]
    layer = last.layer
    activation = _activation(layer)
    if activation is None:
        return model, None
    if isinstance(layer, keras.layers.Activation) or not hasattr(layer, "activation"):
        # It does nothing else and is left out.
        return rebuild(model, replace=lambda other: _as_it_is if other is layer else other), activation
    linear = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    cut = rebuild(model, replace=lambda other: linear if other is layer else other)
    linear.set_weights(layer.get_weights())
    return cut, activation


def _as_it_is(x: Any, **_: Any) -> Any:
    return x


def _activation(layer: Any) -> str | None:
    """The softmax or sigmoid over its last axis that a layer (or bare operation) ends in, if it does."""
    name = getattr(getattr(layer, "activation", None), "__name__", None) or type(layer).__name__.lower()
    if name not in _TASKS or getattr(layer, "axis", -1) not in (-1, len(layer.output.shape) - 1):
        return None
    return name


def _task(title: str, activation: str | None, given: Task | None) -> Task:
    found = _TASKS.get(activation or "")
    task = found or given
    if task is None:
        raise UserError(
            f"{title} ends in no softmax or sigmoid, so its outputs are taken for logits; say with --task whether they "
            "are single-label (softmax) or multi-label (sigmoid)"
        )
    if found and given and found != given:
        raise UserError(f"{title} ends in a {activation}, so it is {found}; leave out --task {given}")
    return task


def _copy(model: keras.Model) -> keras.Model:
    """The same model of new layers, each of them called once: `layer.output` is in it then, and not in an older one."""

    def made(layer: Any) -> Any:
        # A program that was trusted is not read a second time; it keeps no weights.
        return layer if isinstance(layer, keras.layers.Lambda) else type(layer).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=made)
    for layer in model.layers:
        if layer.weights:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy
