"""The embedding inside a trained classifier: where it is cut, what identifies it, and images streamed through it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from rsml.data.pipeline import evaluation_dataset
from rsml.models.fingerprint import fingerprint
from rsml.prediction.scene_model import SceneModel
from rsml.utils.errors import UserError
from rsml.utils.settings import nearest

LAYERS = ("embedding", "features")
"""Layers a model is cut at, the first that it has."""

_POOLING = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Flatten,
)


class Embedder:
    """Embeds images with a trained classifier.

    Args:
        scene_model: The classifier.
        source: Where it came from, for people.
        layer: The layer whose output is the embedding; None is "embedding" (GRN), "features" (the pooled features of
            every rsml classifier), or else the last pooling layer.

    Attributes:
        fingerprint: 16 hex digits that change with any weight below the cut, the layer, or how images are read.
    """

    def __init__(self, scene_model: SceneModel, source: str = "", layer: str | None = None) -> None:
        self.scene_model = scene_model
        model = scene_model.model
        self.layer = _cut(model, layer, source)
        output = self.layer.output
        # The labels come along: beside the backbone they cost nothing, and a query may need them.
        self.model = keras.Model(model.input, [output, model.output], name="rsml_embedder")
        self.width = int(output.shape[-1])
        self.fingerprint = fingerprint(
            keras.Model(model.input, output), {"layer": self.layer.name, "reading": scene_model.reading}
        )
        self.about = {"source": source, "layer": self.layer.name, "width": self.width}

    def stream(self, files: Sequence[str], bad: list, batch_size: int = 32) -> Iterator[tuple[list[str], np.ndarray]]:
        """Yields the files of a batch and `(batch, width)` float32 embeddings; unreadable images go into `bad`."""
        return ((names, vectors) for names, vectors, _ in self.stream_labels(files, bad, batch_size))

    def stream_labels(
        self, files: Sequence[str], bad: list, batch_size: int = 32
    ) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
        """As `stream`, with the `(batch, labels)` probabilities of the classifier."""
        options = {"batch_size": batch_size, "on_bad": "skip", "bad": bad, **self.scene_model.reading}
        size = None
        for images, about in evaluation_dataset(list(files), **options):
            images, rows = images.numpy(), about["index"].numpy()
            # A smaller last batch is filled up: for another shape TensorFlow would trace and optimise the network anew.
            size = size or len(images)
            filled = np.concatenate([images, np.zeros((size - len(images), *images.shape[1:]), images.dtype)])
            vectors, scores = (np.asarray(output, np.float32) for output in self.model.predict_on_batch(filled))
            yield [files[row] for row in rows], vectors[: len(rows)], scores[: len(rows)]


def _cut(model: keras.Model, name: str | None, source: str) -> keras.layers.Layer:
    names = [layer.name for layer in model.layers]
    if name is None:
        found = [model.get_layer(known) for known in LAYERS if known in names]
        found += [layer for layer in reversed(model.layers) if isinstance(layer, _POOLING)]
        if not found:
            raise UserError(
                f"{source}: no layer named {' or '.join(LAYERS)} and no pooling layer; name one with --layer"
            )
        layer = found[0]
    elif name in names:
        layer = model.get_layer(name)
    else:
        raise UserError(f"{source}: no layer '{name}'{nearest(name, names)}")
    if len(layer.output.shape) != 2:
        raise UserError(
            f"{source}: layer '{layer.name}' has outputs of shape {tuple(layer.output.shape)}; "
            "an embedding is (batch, width), name such a layer with --layer"
        )
    return layer
