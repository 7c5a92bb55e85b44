"""GRN: an embedding in which images with like labels are neighbours, learned against a memory of all images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from rsml.methods.base import LabelContext, Method, Term
from rsml.utils.errors import UserError

if TYPE_CHECKING:
    import keras

Fraction = Annotated[float, Field(ge=0, le=1)]


class GRN(Method):
    """Scalable neighbour discriminative loss (SNDL) on a unit-length embedding, with or without a classifier's loss.

    The pooled features lead to a dense layer, "projection"; at unit length it is the layer "embedding", which the
    saved model keeps and retrieval finds. The loss compares a batch with a memory of one vector for each training
    image, which is part of the training's state and not of the model.

    SNDL-BCE (`bce`) adds the experiment's objective on the logits, binary cross entropy by default. In pure SNDL the
    paper classifies by neighbours only; here the classifier is a dense layer that is trained by the objective while
    its gradient goes no further, so that the saved model labels images all the same and its embedding is SNDL's alone.

    Validation measures `knn_samples_f1` too: the sample-averaged F1 of what the nearest images in the memory vote.

    Attributes:
        bce: SNDL-BCE; else pure SNDL.
        classifier: What the logits are made from: the "projection" (the authors' code), or the pooled "features" by
            the experiment's own classifier, that of another method for instance.
        dim: Width of the embedding.
        temperature: T of the softmax over the memory.
        margin: Divides the neighbours' mass by exp(margin / T).
        momentum: Share of an image's old vector that an update keeps, at first.
        momentum_steps: The share from a fraction of all epochs on; the paper's are epochs 80 and 120 of 130.
        neighbors: Nearest images that vote in `knn_samples_f1`.
        block: Rows of the memory worked through at once; changes memory and speed, not results.

    Reference:
        Kang et al., Graph Relation Network: Modeling Relations Between Scenes for Multilabel Remote-Sensing Image
        Classification and Retrieval, TGRS 2020.
    """

    takes_mixed_labels: ClassVar[bool] = False
    kind: Literal["grn"] = "grn"
    bce: bool = True
    classifier: Literal["projection", "features"] = "projection"
    dim: PositiveInt = 128
    temperature: float = Field(0.05, ge=1e-6)
    margin: NonNegativeFloat = 0.0
    momentum: Fraction = 0.5
    momentum_steps: dict[Fraction, Fraction] = {80 / 130: 0.8, 120 / 130: 0.9}
    neighbors: PositiveInt = 10
    block: int = Field(4096, ge=1, le=1_000_000)
    counts_epochs: ClassVar[bool] = True

    @property
    def replaces_logits(self) -> bool:  # type: ignore[override]  # the one method whose options decide it
        return not self.bce or self.classifier == "projection"

    def logits(self, features: Any, context: LabelContext) -> dict[str, Any]:
        import keras

        from rsml.layers import Probe

        dense = keras.layers.Dense if self.bce else Probe
        head = dense(len(context.names), kernel_initializer="he_normal", name="logits", dtype="float32")
        if self.classifier == "features":
            return {"logits": head(features)}
        projection = self._projection(features)
        return {"logits": head(projection), "embedding": _unit_length(projection)}

    def outputs(self, outputs: Mapping[str, keras.KerasTensor], context: LabelContext) -> dict[str, keras.KerasTensor]:
        if "embedding" in outputs:
            return {}
        return {"embedding": _unit_length(self._projection(outputs["features"]))}

    def terms(self, context: LabelContext) -> list[Term]:
        if len(context.training_labels) < 2:
            raise UserError("method 'grn' compares training images with one another, and there is only one; add more")
        return [NeighborTerm(self, context)]

    def momentum_at(self, epoch: int, epochs: int) -> float:
        """Share of an image's old vector that an update keeps, in an epoch counted from 0."""
        # 80 / 130 * 130 may come out above 80.
        begun = [start for start in self.momentum_steps if epoch >= start * epochs - 1e-6]
        return self.momentum_steps[max(begun)] if begun else self.momentum

    def _projection(self, features: Any) -> Any:
        import keras

        dense = keras.layers.Dense(self.dim, kernel_initializer="he_normal", name="projection", dtype="float32")
        return dense(features)


def _unit_length(projection: Any) -> Any:
    import keras

    return keras.layers.UnitNormalization(name="embedding", dtype="float32")(projection)


class NeighborTerm(Term):
    """SNDL of a batch against the memory, which then takes up the batch.

    Args:
        options: The method's options.
        context: Gives the labels of the images in the memory, the number of epochs and the seed.
    """

    name = "sndl"
    needs = ("embedding",)
    measures = ("knn_samples_f1",)

    def __init__(self, options: GRN, context: LabelContext) -> None:
        from rsml.layers import NeighborMemory

        self.state = self.memory = NeighborMemory(
            len(context.training_labels),
            labels=context.training_labels,
            seed=context.seed,
            **options.arguments_for(NeighborMemory),
        )
        self.neighbors = options.neighbors
        self._options, self._labels, self._epochs = options, context.training_labels, context.epochs

    def __call__(self, labels: Any, index: Any, outputs: Mapping[str, Any]) -> Any:
        from keras import ops

        return ops.mean(self.memory(outputs["embedding"], index, training=True))

    def begin_epoch(self, epoch: int) -> None:
        self.memory.momentum = self._options.momentum_at(epoch, self._epochs)

    def measure(self, labels: np.ndarray, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        from rsml.evaluation.neighbors import knn_f1

        bank = self.memory.memory.numpy()
        return {"knn_samples_f1": knn_f1(bank, self._labels, outputs["embedding"], labels, k=self.neighbors)}
