"""What a method is: its options, and the parts it brings to an experiment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from rsml.utils.settings import Settings

if TYPE_CHECKING:
    import keras

    from rsml.methods.objectives import Objective
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
        task: "multi-label", "single-label" or "proportions".
        training_labels: `(images, labels)` 0/1, or shares, of the training part, in the order of its rows.
        epochs: Epochs of the whole training.
        seed: The experiment's seed.
        backbone: Name of the backbone.
    """

    names: tuple[str, ...]
    task: str
    training_labels: np.ndarray
    epochs: int
    seed: int
    backbone: str = ""


class Term:
    """One summand of the training loss, and what belongs to it besides.

    A term is called with labels `(batch, labels)`, training rows `(batch,)` and the network's outputs by name (and
    "images", as the network got them), and returns a scalar. Of several devices each computes it from the whole batch;
    a loss of Keras's is made with `reduction=None` or "sum" then, since its mean divides by the number of devices. What
    a term keeps from step to step (a memory, a teacher) is the `state`, a layer whose variables are saved and resumed
    with the training.

    Attributes:
        name: What the summand is called in the history.
        state: The layer that keeps the term's variables, there once the network is attached; None keeps nothing.
        needs: Outputs of the network that `measure` needs.
        measures: Names of what `measure` returns.
    """

    name: str
    state: keras.layers.Layer | None = None
    needs: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()

    def __call__(self, labels: Any, index: Any, outputs: Mapping[str, Any]) -> Any:
        """Returns the summand, a scalar."""
        raise NotImplementedError

    def prepare(self, images: Any, batch: Any) -> dict[str, Any]:
        """Returns further outputs, made from the images themselves, for the call of this step.

        Where several devices share a batch, each prepares its own images; the call then gets the whole batch's outputs.

        Args:
            images: What this device holds, `(rows, height, width, bands)`.
            batch: Images of the whole batch, a scalar.
        """
        return {}

    def attach(self, network: keras.Model) -> None:
        """Shows the term the network whose loss it is part of, with the weights that training begins with."""

    def begin_epoch(self, epoch: int) -> None:
        """Follows a schedule; called before every epoch, counted from 0 over the whole training, resumed or not."""

    def measure(self, labels: np.ndarray, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns further validation metrics, greater being better.

        Args:
            labels: `(images, labels)` of the validation part.
            outputs: What the term needs, and "scores", `(images, ...)` each.
        """
        return {}


class Method(Settings):
    """One published system as the parts it brings; a part it does not bring stays the experiment's.

    A method overrides what it changes:
    `modify_backbone` puts layers into the backbone, `extend_backbone` puts layers behind it, `logits` replaces the
    classifier on the pooled features, `outputs` adds outputs for its loss, `terms` adds summands to the loss,
    `objective` is the loss on the logits where the experiment names none. `tasks` are those it is made for;
    `counts_epochs` is set where a schedule of its own hangs on the number of epochs, `takes_mixed_labels` where it
    can learn from labels that are shares (MixUp, CutMix).

    A published recipe may also set how training goes where the experiment does not: the backbone's rate, the rates of
    single weights, that the last epoch is taken for the best, the threshold from which on a label is present.
    """

    most: ClassVar[int] = 65_536
    kind: str
    tasks: ClassVar[tuple[str, ...]] = ("multi-label", "single-label")
    replaces_logits: ClassVar[bool] = False
    counts_epochs: ClassVar[bool] = False
    takes_mixed_labels: ClassVar[bool] = True
    takes_last_epoch: ClassVar[bool] = False
    backbone_rate: ClassVar[float | None] = None
    decision_threshold: ClassVar[float | None] = None

    @model_serializer(mode="wrap")
    def _under_a_name_that_is_found(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        from rsml.methods.registry import name_of

        return {**handler(self), "kind": name_of(type(self))}

    def check(self, batch_size: int) -> None:
        """Raises a ValueError if the method cannot work with batches of this size."""

    def modify_backbone(self, backbone: Backbone, context: LabelContext) -> Backbone:
        """Returns the backbone with this method's layers inside."""
        return backbone

    def extend_backbone(self, backbone: Backbone, context: LabelContext) -> Backbone:
        """Returns the backbone with this method's layers behind its feature map, whatever was put into it."""
        return backbone

    def pooling(self) -> str | None:
        """The pooling of the feature map that the method needs, if it needs one."""
        return None

    def logits(self, features: Any, context: LabelContext) -> Any:
        """Makes logits from pooled features `(batch, channels)`; asked when `replaces_logits`.

        Returns:
            Logits `(batch, labels)`, or named outputs with "logits" among them.
        """
        raise TypeError(f"{self.kind} brings no classifier of its own")

    def outputs(self, outputs: Mapping[str, keras.KerasTensor], context: LabelContext) -> dict[str, keras.KerasTensor]:
        """Returns further named outputs of the network, for this method's terms; "embedding" stays in the product."""
        return {}

    def objective(self, task: str) -> Objective | None:
        """Returns the loss on the logits that belongs to the method, if one does; an experiment's own goes before."""
        return None

    def companions(self) -> tuple[Method, ...]:
        """Returns further methods that this one brings along."""
        return ()

    def rates(self, network: keras.Model) -> dict[str, float]:
        """Returns the rates of single weights by their path, as fractions of the learning rate."""
        return {}

    def label_graph_threshold(self) -> float | None:
        """The least P(other label | label) of an edge, where the method has a label graph."""
        return None

    def terms(self, context: LabelContext) -> list[Term]:
        """Returns the summands this method adds to the loss."""
        return []


def graph_threshold(methods: Iterable[Method]) -> float:
    """`Q` of the first of the methods that has a label graph; 0.4, the SIGNA paper's, where none has."""
    own = (method.label_graph_threshold() for method in methods)
    return next((threshold for threshold in own if threshold is not None), 0.4)
