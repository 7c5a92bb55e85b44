"""Load weights into a model from almost anywhere, and say what was loaded."""

import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import keras
import numpy as np

from rsml.layers.tokens import Tokens
from rsml.utils.errors import UserError
from rsml.weights.arrays import SourceLayer, find_weights, read_weights, snake_case


@dataclass
class LoadReport:
    """What became of each layer when weights were loaded.

    Args:
        source: Where the weights came from.
        rule: "name" or "order": how layers were paired.
        matched: Layer of the model -> layer of the source.
        skipped: Layers of the model that the source has nothing for; they keep what they had.
        unused: Layers of the source that the model has no place for.
        shape_mismatch: Layer of the model -> (its shapes, the source's shapes); not loaded.
        adapted: Layer -> what was done to fit it to the number of bands.
        parameters: Number of parameters loaded, and of the whole model.
    """

    source: str
    rule: str = "name"
    matched: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    shape_mismatch: dict[str, tuple[list[tuple], list[tuple]]] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    parameters: tuple[int, int] = (0, 0)

    @property
    def layers(self) -> tuple[int, int]:
        """Number of layers loaded, and of layers with weights in the model."""
        return len(self.matched), len(self.matched) + len(self.skipped) + len(self.shape_mismatch)

    def text(self) -> str:
        """The counts, and what was left out, in one line."""
        loaded, total = self.layers
        line = (
            f"Weights from {self.source}: {loaded} of {total} layers loaded by {self.rule}, "
            f"{_millions(self.parameters[0])} of {_millions(self.parameters[1])} parameters"
        )
        for layer, how in self.adapted.items():
            line += f"; {layer} adapted {how}"
        if self.shape_mismatch:
            line += f"; other shapes: {_some(list(self.shape_mismatch))}"
        if self.skipped:
            line += f"; not in the source: {_some(self.skipped)}"
        if self.unused:
            line += f"; not used: {_some(self.unused)}"
        return line + "."

    def table(self) -> str:
        """One line a layer: what it got."""
        rows = [
            (name, f"loaded from {source}" + (f", adapted {self.adapted[name]}" if name in self.adapted else ""))
            for name, source in self.matched.items()
        ]
        for name, (ours, theirs) in self.shape_mismatch.items():
            rows.append((name, f"not loaded: {ours} here, {theirs} there"))
        rows += [(name, "not in the source") for name in self.skipped]
        rows += [(name, "in the source only") for name in self.unused]
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join(f"{name:<{width}}  {what}" for name, what in rows)


def load_weights(model: keras.Model, source: str | Path | keras.Model) -> LoadReport:
    """Loads weights into the layers of a model and reports layer by layer.

    The source may be a `.keras` model, any `.h5` of Keras (2 or 3, whole models and weights alone), a run folder (its
    best model), a PyTorch state file (`.pth`, `.npz`, `.safetensors`; see `rsml.weights.torch_names`) or a Keras
    model. It is read as data: nothing in it is executed, and the custom layers it may hold need not be known.

    How layers are paired. By name: same name and same shapes. Names that Keras made up ("conv2d_94") say nothing
    between two models, so the n-th of a class is paired with the n-th of that class. If names pair fewer layers than
    the order does, the order is used: for each kind of layer, the source's layers of that kind must have the same
    shapes as the model's in the same order, and all convolutions must be paired so. PyTorch files go by name only.

    The first convolution of a network for another number of bands is adapted (see `adapt_bands`). A source from which
    nothing can be loaded is an error.
    """
    if isinstance(source, keras.Model):
        name, layers = source.name, _layers_of_model(source)
    else:
        name, layers = str(source), read_weights(source)
    targets = list(_targets(model))
    if not targets:
        raise UserError(f"{model.name} has no weights to load.")
    names = [target.name for target in targets]
    first = next((target.name for target in targets if any(len(shape) == 4 for shape in target.shapes)), None)
    front = set(names[: 1 + names.index(first)]) if first else set()

    by_name = _pair_by_name(targets, layers)
    chosen, rule = by_name, "name"
    if sum(_fit(t, s, front) is not None for t, s in by_name.values()) < len(targets):
        by_order = _pair_by_order(targets, layers, front)
        if len(by_order) > sum(_fit(t, s, front) is not None for t, s in by_name.values()):
            chosen, rule = by_order, "order"

    report = LoadReport(name, rule)
    used, loaded, deep = set(), 0, {}
    for target in targets:
        if target.name not in chosen:
            report.skipped.append(target.name)
            continue
        layer = chosen[target.name][1]
        used.add(id(layer))
        values = _fit(target, layer, front)
        if values is None:
            report.shape_mismatch[target.name] = (target.shapes, [array.shape for array in layer.arrays])
            continue
        if (how := _adaptation(target, layer)) is not None:
            report.adapted[target.name] = how
        report.matched[target.name] = layer.name or f"{layer.kind}"
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
    report.unused = [layer.name or layer.kind for layer in layers if id(layer) not in used]
    report.parameters = (loaded, sum(int(np.prod(shape)) for target in targets for shape in target.shapes))
    if not report.matched:
        raise UserError(
            f"Nothing in {name} fits {model.name}: of {len(targets)} layers with weights, "
            f"{len(report.shape_mismatch)} have a namesake of another shape and {len(report.skipped)} have none "
            f"(the source has {_some([layer.name or layer.kind for layer in layers])}); give weights made for it."
        )
    return report


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


def adapt_layer(layer: keras.layers.Layer, pretrained: keras.layers.Layer) -> None:
    """Fills a layer before or at the first convolution from the same layer made for another number of bands."""
    shapes = [tuple(variable.shape) for variable in layer.weights]
    target = _Target(layer, snake_case(type(layer).__name__), shapes, True)
    arrays = {str(index): np.asarray(value) for index, value in enumerate(pretrained.get_weights())}
    values = _fit(target, SourceLayer(layer.name, target.kind, arrays), {layer.name})
    if values is None:
        raise UserError(f"The layer {layer.name!r} cannot be adapted to another number of bands.")
    layer.load_own_variables({str(index): value for index, value in enumerate(values)})


@dataclass
class _Target:
    layer: keras.layers.Layer
    kind: str
    shapes: list[tuple]
    simple: bool

    @property
    def name(self) -> str:
        return self.layer.name


def _targets(model: keras.Model) -> Iterator[_Target]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _targets(layer)
        elif layer.weights:
            simple = not any(inner.weights for inner in layer._flatten_layers(include_self=False))
            shapes = [tuple(variable.shape) for variable in layer.weights]
            yield _Target(layer, snake_case(type(layer).__name__), shapes, simple)


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
    return [layers[target.name] for target in _targets(model)]


def _key(name: str | None, kind: str) -> tuple[str, int] | None:
    """Number of a name that Keras made up for a class, else None."""
    found = re.fullmatch(rf"{re.escape(kind)}(?:_(\d+))?", name or "") if kind else None
    return (kind, int(found[1] or 0)) if found else None


def _labels(items: list) -> dict[str | tuple, object]:
    """Items by name, where the made-up names are replaced by (class, rank among its class)."""
    result, made_up = {}, {}
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


def _pair_by_name(targets: list[_Target], layers: list[SourceLayer]) -> dict[str, tuple[_Target, SourceLayer]]:
    sources = _labels([layer for layer in layers if layer.name is not None])
    pairs = {}
    for key, target in _labels(targets).items():
        source = sources.get(key, sources.get(target.name) if isinstance(key, str) else None)
        if source is not None:
            pairs[target.name] = (target, source)
    return pairs


def _pair_by_order(
    targets: list[_Target], layers: list[SourceLayer], front: set[str]
) -> dict[str, tuple[_Target, SourceLayer]]:
    if any(layer.kind == "torch" for layer in layers):
        return {}
    classes_known = all(layer.kind for layer in layers)

    def groups(items: list) -> dict[tuple, list]:
        result: dict[tuple, list] = {}
        for item in items:
            shapes = item.shapes if isinstance(item, _Target) else [array.shape for array in item.arrays]
            result.setdefault((item.kind if classes_known else "", tuple(map(len, shapes))), []).append(item)
        return result

    ours, theirs = groups(targets), groups(layers)
    pairs = {}
    for key, members in ours.items():
        others = theirs.get(key, [])
        fits = len(members) == len(others) and all(
            _fit(target, source, front) is not None for target, source in zip(members, others, strict=True)
        )
        if fits:
            pairs.update({t.name: (t, s) for t, s in zip(members, others, strict=True)})
        elif 4 in key[1]:
            return {}
    return pairs if any(4 in key[1] for key in ours) else {}


def _fit(target: _Target, source: SourceLayer, front: set[str]) -> list[np.ndarray] | None:
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


def _keras_form(target: _Target, source: SourceLayer) -> list[np.ndarray]:
    if source.kind == "torch" and target.kind == "depthwise_conv2d":  # (height, width, 1, channels) there
        return [array.swapaxes(2, 3) if array.ndim == 4 else array for array in source.arrays]
    return source.arrays


def _adaptation(target: _Target, source: SourceLayer) -> str | None:
    if not target.simple:
        return None
    for array, shape in zip(_keras_form(target, source), target.shapes, strict=True):
        if array.shape != shape:
            if array.ndim == 3:
                return f"from {array.shape[1]} to {shape[1]} positions"
            axis = 2 if array.ndim == 4 else 0
            return f"from {array.shape[axis]} to {shape[axis]} bands"
    return None


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


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count}"


def _some(names: list[str], limit: int = 4) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


__all__ = ["LoadReport", "adapt_bands", "find_weights", "load_weights", "read_weights"]
