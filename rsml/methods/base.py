"""What a method is: its options, and the parts it brings to an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

import numpy as np
from pydantic import BeforeValidator, Field

from rsml.settings import Settings

if TYPE_CHECKING:
    import keras

    from rsml.models import Backbone


def _split_places(value: Any) -> Any:
    return tuple(value.split("+")) if isinstance(value, str) else value


Places = Annotated[tuple[str, ...], BeforeValidator(_split_places), Field(min_length=1)]
"""Layers or stages to insert after, also written as "stage2+stage3"."""


@dataclass(frozen=True)
class LabelContext:
    """What a method may know of the data: the labels of the training part, never the images.

    Attributes:
        names: Label names, in column order.
        task: "multi-label" or "single-label".
        training_labels: `(images, labels)` 0/1 of the training part, in the order of its rows.
        epochs: Epochs of the whole training.
        seed: The experiment's seed.
    """

    names: tuple[str, ...]
    task: str
    training_labels: np.ndarray
    epochs: int
    seed: int


class Term(Protocol):
    """One summand of the training loss.

    A term that keeps variables (a memory, a teacher) is a `keras.layers.Layer`, so that they are saved and resumed.
    """

    name: str

    def __call__(self, labels: Any, index: Any, outputs: Mapping[str, Any]) -> Any:
        """Returns a scalar from labels `(batch, labels)`, training rows `(batch,)` and the network's outputs."""


class Method(Settings):
    """One published system as the parts it brings; a part it does not bring stays the experiment's.

    A method overrides what it changes:
    `modify_backbone` puts layers into the backbone, `logits` replaces the classifier on the pooled features,
    `outputs` adds outputs for its loss, `terms` adds summands to the loss.
    """

    kind: str
    replaces_objective: ClassVar[bool] = False
    replaces_logits: ClassVar[bool] = False

    def modify_backbone(self, backbone: Backbone, context: LabelContext) -> Backbone:
        """Returns the backbone with this method's layers inside."""
        return backbone

    def pooling(self) -> str | None:
        """The pooling of the feature map that the method needs, if it needs one."""
        return None

    def logits(self, features: Any, context: LabelContext) -> Any:
        """Returns `(batch, labels)` logits from pooled features `(batch, channels)`; asked when `replaces_logits`."""
        raise TypeError(f"{self.kind} brings no classifier of its own")

    def outputs(self, outputs: Mapping[str, keras.KerasTensor], context: LabelContext) -> dict[str, keras.KerasTensor]:
        """Returns further named outputs of the network, for this method's terms."""
        return {}

    def terms(self, context: LabelContext) -> list[Term]:
        """Returns the summands this method adds to the loss."""
        return []
