"""What SIGNA itself did: its channel weights by head, and what each edge and label of its graph does to the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from rsml.figures.style import BLUE, ORANGE, canvas, grid_cells, name_columns, name_rows, open_frame
from rsml.layers import SIGNA
from rsml.layers.scene_predictions import predictions_of
from rsml.models.surgery import calls, rebuild
from rsml.utils.errors import UserError


@dataclass(frozen=True)
class Ablation:
    """What is taken out of the label graph, and what then happens to the scores.

    Attributes:
        source: The label that speaks; the only one where a label is taken out.
        target: The label that listens; None where a label is taken out with all its edges and its own features.
        weight: Of the edge; None of a label.
        shift: `(labels,)`: mean change of each label's logit over the images.
        strength: Mean absolute change of all logits.
        moved: Mean absolute change of the channel weights.
    """

    source: str
    target: str | None
    weight: float | None
    shift: np.ndarray
    strength: float
    moved: float


class SignaExplanation:
    """The SIGNA layers of a model on some images, and their label graph taken apart.

    The label features do not depend on the image. So the layers are folded once, and an ablation only assigns other
    label features: those of the same graph networks on the graph without an edge, or without a label.

    Args:
        model: A classifier with SIGNA layers.
        images: `(images, height, width, bands)` of 0 to 255; some dozens will do.

    Examples:
        >>> signa = SignaExplanation(rsml.load_model("checkpoint/scenes"), rsml.images("photos", size=64))
        >>> signa.channel_weights("signa_stage2").shape  # images, heads, channels
        (36, 6, 128)
    """

    def __init__(self, model: keras.Model, images: Any) -> None:
        self.layers = {layer.name: layer for layer in model.layers if isinstance(layer, SIGNA)}
        if not self.layers:
            kinds = sorted({type(layer).__name__ for layer in model.layers if layer.weights})
            raise UserError(f"{model.name}: has no SIGNA layer (its layers are {', '.join(kinds)}); give a SIGNA run")
        last = predictions_of(model)
        self.labels = last.labels
        self._folded = {name: layer.fold() for name, layer in self.layers.items()}
        folded = rebuild(model, replace=lambda layer: self._folded.get(layer.name, layer))
        graph = calls(folded)
        places = {call.name: place for place, call in enumerate(graph)}
        inputs = {name: graph[graph[places[name]].inputs[0]].outputs[0] for name in self.layers}
        logits = graph[graph[places[last.name]].inputs[0]].outputs[0]
        # All that comes before the first SIGNA layer stays as it is, and is computed once.
        first = min(self.layers, key=places.__getitem__)
        start = inputs[first]
        self._start = keras.Model(folded.input, start).predict(np.asarray(images), verbose=0)
        means = {name: ops.mean(tensor, axis=(1, 2)) for name, tensor in inputs.items()}
        self._upper = keras.Model(start, {"logits": logits, **means})
        self._means, self.logits = self._run()
        self.weights = {name: _weights(folded, self._means[name]) for name, folded in self._folded.items()}

    def _run(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        outputs = self._upper.predict(self._start, verbose=0)
        logits = outputs.pop("logits")
        return outputs, logits

    def channel_weights(self, name: str) -> np.ndarray:
        """What each head of a layer adds to the weight of each channel, `(images, heads, channels)`.

        The sum over heads, plus the layer's bias (and 1 with its residual), is what multiplies the channels.
        """
        layer = self._folded[name]
        channels, each = layer.out_bias.shape[0], []
        kernel = ops.convert_to_tensor(layer.out_kernel)
        one = SIGNA.from_config({**layer.get_config(), "heads": 1, "residual": False, "name": f"{name}_head"})
        one.build((None, None, channels))
        one.out_bias.assign(ops.zeros_like(one.out_bias))
        for head in range(layer.heads):
            for weight in ("q_weight", "q_bias", "v_weight", "v_bias", "constant_label_features"):
                getattr(one, weight).assign(getattr(layer, weight)[head : head + 1])
            one.out_kernel.assign(kernel[head * channels : (head + 1) * channels])
            each.append(_weights(one, self._means[name]))
        return np.stack(each, axis=1)

    def ablations(self, labels: bool = True) -> list[Ablation]:
        """Takes out every edge and, by choice, every label, one at a time in all SIGNA layers; strongest first."""
        graph = next(iter(self.layers.values())).graph
        found = [self._without_edge(int(row), int(column)) for row, column in np.argwhere(graph > 0)]
        if labels:
            found += [self._without_label(column) for column in range(len(self.labels))]
        return sorted(found, key=lambda one: -one.strength)

    def _without_edge(self, target: int, source: int) -> Ablation:
        def cut(graph: np.ndarray) -> np.ndarray:
            graph[target, source] = 0
            return graph

        weight = float(next(iter(self.layers.values())).graph[target, source])
        listens, speaks = self._direction(target, source)
        return self._ablated(cut, None, self.labels[speaks], self.labels[listens], weight)

    def _direction(self, target: int, source: int) -> tuple[int, int]:
        reverse = any(layer.gnn_options.get("reverse_edges") for layer in self.layers.values())
        return (source, target) if reverse else (target, source)

    def _without_label(self, label: int) -> Ablation:
        def cut(graph: np.ndarray) -> np.ndarray:
            graph[label] = 0
            graph[:, label] = 0
            return graph

        return self._ablated(cut, label, self.labels[label], None, None)

    def _ablated(self, cut: Any, silent: int | None, source: str, target: str | None, weight: float | None) -> Ablation:
        before = {name: np.asarray(folded.constant_label_features) for name, folded in self._folded.items()}
        try:
            for name, layer in self.layers.items():
                features = _label_features(layer, cut(layer.graph.copy()), before[name])
                if silent is not None:
                    # Logits of the softmax are sums over labels: a label without features says nothing.
                    features[:, silent] = 0
                self._folded[name].constant_label_features.assign(features)
            means, logits = self._run()
            weights = {name: _weights(folded, means[name]) for name, folded in self._folded.items()}
        finally:
            for name, features in before.items():
                self._folded[name].constant_label_features.assign(features)
        shift = logits - self.logits
        moved = np.mean([np.abs(own - self.weights[name]).mean() for name, own in weights.items()])
        return Ablation(source, target, weight, shift.mean(axis=0), float(np.abs(shift).mean()), float(moved))

    def table(self, ablations: Sequence[Ablation]) -> pd.DataFrame:
        """One row an ablation, with its effect on every label's logit."""
        rows = [
            {"taken_out": one.source if one.target is None else f"{one.source} -> {one.target}", "edge": one.weight,
             "mean_change": one.strength, "weights_moved": one.moved, **dict(zip(self.labels, one.shift, strict=True))}
            for one in ablations
        ]  # fmt: skip
        return pd.DataFrame(rows)


def effects_chart(ablations: Sequence[Ablation], labels: Sequence[str], most: int = 24) -> Figure:
    """The strongest ablations and what each does to every label's logit: blue lowers it, orange raises it."""
    shown = list(ablations[:most])
    figure, axes = canvas(0.34 * len(labels) + 3.6, 0.24 * len(shown) + 1.8)
    values = np.array([one.shift for one in shown])
    reach = float(np.abs(values).max()) or 1.0
    colours = LinearSegmentedColormap.from_list("signed", [BLUE, "#f6f7f8", ORANGE])
    drawn = axes.imshow(values, cmap=colours, vmin=-reach, vmax=reach, aspect="auto")
    name_rows(axes, [one.source if one.target is None else f"{one.source} → {one.target}" for one in shown])
    name_columns(axes, labels)
    grid_cells(axes, len(labels))
    axes.set_title("change of a label's logit without the label or edge at the left", fontsize=9)
    figure.colorbar(drawn, ax=axes, shrink=0.6)
    return figure


def weights_chart(weights: np.ndarray, name: str) -> Figure:
    """What the heads add to the channels' weights: the mean over images, and how far images differ.

    Args:
        weights: `(images, heads, channels)`, of `SignaExplanation.channel_weights`.
        name: Of the layer.
    """
    figure, axes = canvas(7.2, 0.5 * weights.shape[1] + 1.2)
    mean, spread = weights.mean(axis=0), weights.std(axis=0)
    for head in range(weights.shape[1]):
        order = np.argsort(mean[head])
        place = np.linspace(0, 1, len(order))
        scale = 0.42 / max(float(np.abs(mean).max()), 1e-9)
        axes.fill_between(
            place, head + scale * (mean - spread)[head][order], head + scale * (mean + spread)[head][order],
            color=BLUE, alpha=0.25, linewidth=0,
        )  # fmt: skip
        axes.plot(place, head + scale * mean[head][order], color=BLUE, linewidth=1.2)
    axes.set_yticks(range(weights.shape[1]), [f"head {head + 1}" for head in range(weights.shape[1])], fontsize=8)
    axes.set(xticks=[], xlabel="channels, by what the head adds to them")
    axes.set_title(
        f"{name}: the band is the deviation over images; one step up is {2.4 * np.abs(mean).max():.3g}", fontsize=9
    )
    open_frame(axes)
    return figure


def _label_features(layer: SIGNA, graph: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """What a layer's own graph networks make of another graph; a folded layer has none left."""
    if layer.folded:
        raise UserError(f"layer '{layer.name}': is folded and has no graph networks to take apart; give the run itself")
    other = SIGNA.from_config({**layer.get_config(), "graph": graph.tolist()})
    other.build((None, None, layer.out_bias.shape[0]))
    for mine, theirs in zip(other.graph_layers, layer.graph_layers, strict=True):
        for target, source in zip(mine.weights, theirs.weights, strict=True):
            target.assign(source)
    features = np.array(ops.convert_to_numpy(other.label_features()))
    assert features.shape == kept.shape
    return features


def _weights(layer: SIGNA, means: np.ndarray) -> np.ndarray:
    """What a layer multiplies the channels by, `(images, channels)`, when their means are these."""
    # Two tokens with that mean, the first of them nowhere near zero.
    away = np.abs(means) + 1
    tokens = np.stack([means + away, means - away], axis=1)
    return np.asarray(ops.convert_to_numpy(layer(tokens)))[:, 0] / tokens[:, 0]
