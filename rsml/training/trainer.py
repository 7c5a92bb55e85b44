"""The model that `fit` drives: a network, the loss on its logits, and the methods' further terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from rsml.methods import Term
from rsml.methods.objectives import LossFunction
from rsml.models.surgery import resized
from rsml.training.devices import ALONE, Spread, SpreadModel, WholeOutputs, whole


class Trainer(SpreadModel):
    """Runs a network in training and adds up its loss; never saved, since the served model has all that lasts.

    Callbacks of other packages have this model in their hands: it saves, predicts and describes the served one.

    Args:
        network: Images to `{"logits", "features", ...}`.
        objective: The loss on the logits.
        terms: Further summands; the variables of their states are saved with the training state.
        served: Images to probabilities, over the same layers.
        spread: The devices, over which network and terms were made.
    """

    def __init__(
        self,
        network: keras.Model,
        objective: LossFunction,
        terms: Sequence[Term] = (),
        served: keras.Model | None = None,
        spread: Spread = ALONE,
    ) -> None:
        super().__init__(spread, name="trainer")
        # Past Keras's bookkeeping, which would count its weights a second time.
        object.__setattr__(self, "served", served if served is not None else network)
        object.__setattr__(self, "sized", network)
        self.network = network
        self.objective = objective
        self.terms = list(terms)
        with spread.scope():
            for term in self.terms:
                term.attach(network)
        # Keras tracks the layers in a list, and their variables are resumed.
        self.states = [term.state for term in self.terms if term.state is not None]
        names = ["objective", *(term.name for term in self.terms)] if self.terms else []
        with spread.scope():
            self.summands = {name: keras.metrics.Mean(name=name) for name in names}
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*super().metrics, *self.summands.values()]

    def begin_epoch(self, epoch: int) -> None:
        """Tells the terms that an epoch begins."""
        for term in self.terms:
            term.begin_epoch(epoch)

    def call(self, images: Any, training: bool = False) -> dict[str, Any]:
        return self.sized(images, training=training)

    def at_size(self, size: int) -> None:
        """Trains on images of another size from here on, with the same layers."""
        object.__setattr__(self, "sized", resized(self.network, size))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        y, outputs = whole(y), WholeOutputs(whole(y_pred), x)
        for term in self.terms:
            outputs |= whole(term.prepare(x, ops.shape(y["labels"])[0]))
        values = {"objective": self.objective(y["labels"], outputs["logits"])}
        for term in self.terms:
            values[term.name] = term(y["labels"], y["index"], outputs)
        for name, tracker in self.summands.items():
            # Weighed by images as Keras weighs the loss, so that the summands add up to it.
            tracker.update_state(values[name], sample_weight=ops.shape(y["labels"])[0])
        # Every device has computed the same; what the optimizer adds up over devices is then the whole.
        return sum([*values.values(), *self.losses]) / self.spread.replicas

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        return {metric.name: metric.result() for metric in self.metrics}

    def save(self, *arguments: Any, **options: Any) -> None:
        self.served.save(*arguments, **options)

    def save_weights(self, *arguments: Any, **options: Any) -> None:
        self.served.save_weights(*arguments, **options)

    def export(self, *arguments: Any, **options: Any) -> None:
        self.served.export(*arguments, **options)

    def predict(self, *arguments: Any, **options: Any) -> Any:
        return self.served.predict(*arguments, **options)

    def summary(self, *arguments: Any, **options: Any) -> None:
        self.served.summary(*arguments, **options)

    def get_config(self) -> dict[str, Any]:
        return self.served.get_config()
