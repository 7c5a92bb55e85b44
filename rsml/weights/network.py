"""Go on from a trained network: not its backbone alone, but what was put into it and its head too."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras

from rsml.utils.errors import UserError
from rsml.utils.guard import Damaged
from rsml.weights.arrays import find_weights, snake_case
from rsml.weights.load import load_pairs
from rsml.weights.models import model_config
from rsml.weights.pairing import Target, targets_of
from rsml.weights.report import LoadReport
from rsml.weights.source_layer import SourceLayer

Head = Literal["auto", "load", "fresh"]


def continued(classifier: Any, source: str | Path, labels: Sequence[str], head: Head = "auto") -> Any:
    """A classifier with all that a file holds for it, its backbone loaded from the same file; see `load_rest`.

    Args:
        classifier: A `rsml.models.Classifier`.
        source: The file or run folder.
        labels: The labels of the data, in order.
        head: What becomes of the head.
    """
    backbone = classifier.backbone
    names = {layer.name for layer in backbone.model.layers}
    report = load_rest(classifier.network, backbone.report, source, backbone=names, labels=labels, head=head)
    return replace(classifier, backbone=replace(backbone, report=report))


def load_rest(
    network: keras.Model,
    report: LoadReport,
    source: str | Path,
    *,
    backbone: Collection[str],
    labels: Sequence[str],
    head: Head = "auto",
) -> LoadReport:
    """Loads what a file holds besides the backbone: layers put into it, layers behind it, and the classifier.

    Layers are paired by name, as rsml's own files have them. Where no name is known (files of the authors of a method,
    where Keras made the names up), what the file has besides the backbone is taken in its order, as long as the shapes
    are those of the network's layers in their order.

    The head is the layer "logits" and whatever else has one value a label. It is loaded when the file's labels are
    `labels`, in the same order; a file that names no labels must have as many classes.

    Args:
        network: The network, its backbone loaded.
        report: What became of the backbone.
        source: The file or run folder that the backbone came from.
        backbone: Names of the backbone's own layers.
        labels: Labels of the network, in order.
        head: "auto" as above; "fresh" never loads the head; "load" makes it a fault when it cannot be.

    Returns:
        The report of the whole network.
    """
    known = labels_in(source)
    targets = [target for target in targets_of(network) if target.name not in backbone]
    of_labels = {len(labels)} | ({len(known)} if known is not None else set())
    heads = {target.name for target in targets if target.name == "logits" or _has_side(target, of_labels)}
    layers = report.left
    pairs = {target.name: layer for target in targets for layer in layers if layer.name == target.name}
    parts = [] if pairs else _in_order(targets, layers)
    leave_head = head == "fresh" or (known is not None and tuple(known) != tuple(labels))
    if leave_head:
        pairs = {name: layer for name, layer in pairs.items() if name not in heads}
        parts = [(part, layer, owner) for part, layer, owner in parts if owner not in heads]
    whole = replace(
        report,
        matched=dict(report.matched),
        skipped=list(report.skipped),
        shape_mismatch=dict(report.shape_mismatch),
        left=[],
    )
    load_pairs(network, [target for target in targets if pairs or not parts], pairs, whole)
    if parts:
        _load_parts(targets, parts, whole)
    used = set(whole.matched.values())
    whole.unused = [layer.name or layer.kind for layer in layers if (layer.name or layer.kind) not in used]
    if head == "load" and "logits" not in whole.matched:
        raise UserError(
            f"{source}: its head does not fit ({_why(known, labels)}); use data of its labels, or set model.head=auto"
        )
    return whole


def labels_in(source: str | Path) -> tuple[str, ...] | None:
    """The labels that an rsml model names, read as data; None for any other file.

    Args:
        source: A file or run folder.
    """
    path = find_weights(source)
    if path.suffix.lower() not in (".keras", ".h5", ".hdf5"):
        return None
    try:
        config = model_config(path)
    except Damaged:
        raise
    except UserError:  # weights alone
        return None
    for entry in _entries(config):
        labels = entry["config"].get("labels")
        if str(entry.get("class_name")).endswith("ScenePredictions") and isinstance(labels, list):
            return tuple(str(label) for label in labels)
    return None


def _entries(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        if isinstance(config.get("config"), dict):
            yield config
        for value in config.values():
            yield from _entries(value)
    elif isinstance(config, list):
        for value in config:
            yield from _entries(value)


def _has_side(target: Target, sides: set[int]) -> bool:
    return any(side in sides for shape in target.shapes for side in shape)


def _parts(targets: Sequence[Target]) -> Iterator[tuple[Target, str]]:
    """The innermost layers with weights, in the order of their weights, and the layer each is of."""
    for target in targets:
        if target.simple:
            yield target, target.name
            continue
        owners = {
            id(weight): layer for layer in target.layer._flatten_layers() for weight in layer._trainable_variables
        }
        owners |= {
            id(weight): layer for layer in target.layer._flatten_layers() for weight in layer._non_trainable_variables
        }
        seen: list[keras.layers.Layer] = []
        for weight in target.layer.weights:
            layer = owners.get(id(weight))
            if layer is not None and not any(layer is other for other in seen):
                seen.append(layer)
        for layer in seen:
            shapes = [tuple(weight.shape) for weight in layer.weights]
            yield Target(layer, snake_case(type(layer).__name__), shapes, True), target.name


def _in_order(targets: Sequence[Target], layers: Sequence[SourceLayer]) -> list[tuple[Target, SourceLayer, str]]:
    if any(layer.kind == "torch" for layer in layers):
        return []
    found = []
    for (part, owner), layer in zip(_parts(targets), layers, strict=False):
        if part.shapes != [array.shape for array in layer.arrays]:
            break
        found.append((part, layer, owner))
    return found


def _load_parts(
    targets: Sequence[Target], parts: Sequence[tuple[Target, SourceLayer, str]], report: LoadReport
) -> None:
    loaded = 0
    for part, layer, owner in parts:
        part.layer.load_own_variables({str(index): value for index, value in enumerate(layer.arrays)})
        place = part.name if part.name == owner else f"{owner}/{part.name}"
        report.matched[place] = layer.name or layer.kind
        loaded += layer.size
    owners = {owner for _, _, owner in parts}
    report.skipped += [target.name for target in targets if target.name not in owners]
    asked = sum(target.layer.count_params() for target in targets)
    report.parameters = (report.parameters[0] + loaded, report.parameters[1] + asked)


def _why(known: Sequence[str] | None, labels: Sequence[str]) -> str:
    if known is None:
        return f"it names no labels, and no layer of it makes {len(labels)} logits where the network does"
    return (
        f"it has {len(known)} labels ({', '.join(known[:3])} ...), the data {len(labels)} ({', '.join(labels[:3])} ...)"
    )
