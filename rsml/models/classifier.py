"""The complete model: backbone, pooled features, logits, and the last layer that makes them probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from rsml.layers import Companion, ScenePredictions
from rsml.models.backbones import Backbone

_POOLING = {"average": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}


@dataclass(frozen=True)
class Classifier:
    """A network in its two shapes over the same layers: one to train, one to serve.

    Attributes:
        network: Images to `{"logits", "features", ...}`, what losses need.
        backbone: The backbone as it was before anything was put into it.
    """

    network: keras.Model
    backbone: Backbone

    def served(self, **about: Any) -> keras.Model:
        """Images to probabilities, a flat model whose last layer carries what a user must know about it.

        A network's "embedding" stays in it, where retrieval finds the layer of that name.

        Args:
            **about: Arguments of `ScenePredictions`: label names, task, thresholds, experiment.
        """
        logits = self.network.output["logits"]
        if "embedding" in self.network.output:
            logits = Companion(name="beside_embedding")([logits, self.network.output["embedding"]])
        outputs = ScenePredictions(name="predictions", **about)(logits)
        return keras.Model(self.network.input, outputs, name="rsml_classifier")

    def backbone_layers(self) -> list[keras.layers.Layer]:
        """The layers with weights that were the backbone's own."""
        return [layer for layer in self.backbone.model.layers if layer.weights]


def build_classifier(
    backbone: Backbone,
    labels: int,
    *,
    pooling: str = "average",
    dropout: float = 0.0,
    insertions: Sequence[Callable[[Backbone], Backbone]] = (),
    logits: Callable[[Any], Any] | None = None,
    outputs: Sequence[Callable[[dict[str, Any]], dict[str, Any]]] = (),
) -> Classifier:
    """Joins a backbone and a head into one flat functional network.

    Args:
        backbone: Raw images to a feature map `(batch, height, width, channels)`.
        labels: Number of labels.
        pooling: "average" or "max".
        dropout: Fraction of pooled features dropped while training.
        insertions: Put layers into the backbone, one after another.
        logits: Pooled features to logits, or to named outputs with "logits" among them; None is one dense layer.
        outputs: Each adds named outputs to those there already.
    """
    filled = backbone
    for insert in insertions:
        filled = insert(filled)
    features = _POOLING[pooling](name="features", dtype="float32")(filled.model.output)
    dropped = keras.layers.Dropout(dropout, name="dropout")(features) if dropout else features
    if logits is None:
        logits = keras.layers.Dense(labels, name="logits", dtype="float32")
    made = logits(dropped)
    named = {**(made if isinstance(made, dict) else {"logits": made}), "features": features}
    for add in outputs:
        named.update(add(named))
    return Classifier(keras.Model(filled.model.input, named, name="rsml_network"), backbone)
