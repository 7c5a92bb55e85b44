"""Load weights into a model from almost anywhere, and say what was loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from rsml.utils.errors import UserError
from rsml.utils.text import some
from rsml.weights.arrays import find_weights, read_weights, snake_case
from rsml.weights.pairing import (
    Target,
    adapt_bands,
    adaptation,
    fit,
    pair_by_name,
    pair_by_order,
    pick_bands,
    targets_of,
)
from rsml.weights.report import LoadReport
from rsml.weights.source_layer import SourceLayer


def load_weights(
    model: keras.Model, source: str | Path | keras.Model, bands: Sequence[int] | None = None
) -> LoadReport:
    """Loads weights into the layers of a model and reports layer by layer.

    The source may be a `.keras` model, any `.h5` of Keras (2 or 3, whole models and weights alone), a run folder (its
    best model), a PyTorch state file (`.pth`, `.npz`, `.safetensors`; see `rsml.weights.torch_names`) or a Keras
    model. It is read as data: nothing in it is executed, and the custom layers it may hold need not be known.

    How layers are paired. By name: same name and same shapes. Names that Keras made up ("conv2d_94") say nothing
    between two models, so the n-th of a class is paired with the n-th of that class. If names pair fewer layers than
    the order does, the order is used: for each kind of layer, the source's layers of that kind must have the same
    shapes as the model's in the same order, and all convolutions must be paired so. PyTorch files go by name only.

    The first convolution of a network for another number of bands is adapted (see `adapt_bands`); `bands` picks some of
    the source's bands, counted from 0, before. A source from which nothing can be loaded is an error.
    """
    if isinstance(source, keras.Model):
        name, layers = source.name, _layers_of_model(source)
    else:
        name, layers = str(source), read_weights(source)
    if bands is not None:
        pick_bands(layers, bands)
    targets = list(targets_of(model))
    if not targets:
        raise UserError(f"{model.name} has no weights to load.")
    names = [target.name for target in targets]
    first = next((target.name for target in targets if any(len(shape) == 4 for shape in target.shapes)), None)
    front = set(names[: 1 + names.index(first)]) if first else set()

    by_name = pair_by_name(targets, layers)
    chosen, rule = by_name, "name"
    fitting = sum(fit(t, s, front) is not None for t, s in by_name.values())
    if fitting < len(targets):
        by_order = pair_by_order(targets, layers, front)
        if len(by_order) > fitting:
            chosen, rule = by_order, "order"

    report = LoadReport(name, rule)
    load_pairs(model, targets, {key: pair[1] for key, pair in chosen.items()}, report, front)
    used = {id(layer) for _, layer in chosen.values()}
    report.left = [layer for layer in layers if id(layer) not in used]
    report.unused = [layer.name or layer.kind for layer in report.left]
    if not report.matched:
        raise UserError(
            f"Nothing in {name} fits {model.name}: of {len(targets)} layers with weights, "
            f"{len(report.shape_mismatch)} have a namesake of another shape and {len(report.skipped)} have none "
            f"(the source has {some([layer.name or layer.kind for layer in layers])}); give weights made for it."
        )
    return report


def load_pairs(
    model: keras.Model,
    targets: Sequence[Target],
    sources: dict[str, SourceLayer],
    report: LoadReport,
    front: Collection[str] = (),
) -> None:
    """Loads layers that are paired, and adds to a report what became of each target and how many parameters that were.

    Args:
        model: The model that the targets are of.
        targets: Its layers that are asked for.
        sources: The layer of the source for a target's name.
        report: Is added to.
        front: Names of the layers that may be adapted to another number of bands.
    """
    loaded, deep = 0, {}
    for target in targets:
        if target.name not in sources:
            report.skipped.append(target.name)
            continue
        layer = sources[target.name]
        values = fit(target, layer, front)
        if values is None:
            report.shape_mismatch[target.name] = (target.shapes, [array.shape for array in layer.arrays])
            continue
        if (how := adaptation(target, layer)) is not None:
            report.adapted[target.name] = how
        report.matched[target.name] = layer.name or layer.kind
        loaded += sum(value.size for value in values)
        if target.simple:
            target.layer.load_own_variables({str(index): value for index, value in enumerate(values)})
        elif layer.ordered:
            for variable, value in zip(_old_order(target.layer), values, strict=True):
                variable.assign(value)
        else:
            deep[target.name] = layer
    if deep and (strange := _load_deep(model, deep)):
        for target in targets:
            if target.name in strange:
                source_shapes = [array.shape for array in deep[target.name].arrays]
                report.shape_mismatch[target.name] = (target.shapes, source_shapes)
                loaded -= deep[target.name].size
                del report.matched[target.name]
    asked = sum(int(np.prod(shape)) for target in targets for shape in target.shapes)
    report.parameters = (report.parameters[0] + loaded, report.parameters[1] + asked)


def adapt_layer(layer: keras.layers.Layer, pretrained: keras.layers.Layer) -> None:
    """Fills a layer before or at the first convolution from the same layer made for another number of bands."""
    shapes = [tuple(variable.shape) for variable in layer.weights]
    target = Target(layer, snake_case(type(layer).__name__), shapes, True)
    arrays = {str(index): np.asarray(value) for index, value in enumerate(pretrained.get_weights())}
    values = fit(target, SourceLayer(layer.name, target.kind, arrays), {layer.name})
    if values is None:
        raise UserError(f"The layer {layer.name!r} cannot be adapted to another number of bands.")
    layer.load_own_variables({str(index): value for index, value in enumerate(values)})


def _old_order(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The order of a layer's variables in old HDF5 files: those that train first."""
    state = layer.trainable
    layer.trainable = True
    try:
        return list(layer.trainable_weights) + list(layer.non_trainable_weights)
    finally:
        layer.trainable = state


def _layers_of_model(model: keras.Model) -> list[SourceLayer]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        model.save_weights(path)
        layers = {layer.name: layer for layer in read_weights(path)}
    return [layers[target.name] for target in targets_of(model)]


def _load_deep(model: keras.Model, layers: dict[str, SourceLayer]) -> set[str]:
    """Loads layers that hold layers, through a weights file of the model; returns the names that did not fit.

    Which variable lies at which place of the file only Keras knows, so the model's own file is written, the numbers in
    it are exchanged, and it is read again.
    """
    strange = set(layers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        model.save_weights(path)
        with h5py.File(path, "r+") as file:

            def exchange(_: str, group: h5py.Group | h5py.Dataset) -> None:
                name = group["vars"].attrs.get("name") if isinstance(group, h5py.Group) and "vars" in group else None
                if name not in strange or not _same_places(group, layers[name]):
                    return
                for place, value in layers[name].values.items():
                    group[place][...] = value
                strange.discard(name)

            file.visititems(exchange)
        model.load_weights(path)
    return strange


def _same_places(group: h5py.Group, layer: SourceLayer) -> bool:
    return all(place in group and group[place].shape == value.shape for place, value in layer.values.items())


__all__ = ["LoadReport", "adapt_bands", "find_weights", "load_weights", "read_weights"]
