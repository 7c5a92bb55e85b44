"""What is measured on the validation part after each epoch, and which of it chooses the best one."""

from __future__ import annotations

import logging

import keras
import numpy as np
from keras import ops

from rsml.config import Experiment
from rsml.data import pipeline
from rsml.data.samples import Samples
from rsml.evaluation.scalars import scalar_metrics
from rsml.methods.objectives import NoObjective, Objective
from rsml.tasks import task
from rsml.training.hosts import gathered, own_rows
from rsml.training.trainer import Trainer
from rsml.utils.errors import UserError

logger = logging.getLogger(__name__)

EPOCH = "epoch"
"""The monitor under which every epoch is better than the one before."""


class Validation:
    """Measures the network on the validation part.

    Args:
        experiment: Says how the images are read and what chooses the best epoch.
        part: The validation part; empty where there is none, and then nothing is measured.
        trainer: What is trained.
        objective: What it learns by; its value on the part is measured where it has one.
        threshold: Probability above which a label counts as present.

    Attributes:
        monitor: The metric that chooses the best epoch.
        scores: `(images, labels)` of the last measurement.
    """

    def __init__(
        self, experiment: Experiment, part: Samples, trainer: Trainer, objective: Objective, threshold: float = 0.5
    ) -> None:
        self.part, self.trainer, self.threshold = part, trainer, threshold
        self.scores = np.zeros((0, len(part.label_names)), np.float32)
        # The loss of training holds the methods' terms too, which know training images alone.
        self.loss = None if isinstance(objective, NoObjective) else "objective" if trainer.terms else "loss"
        self.monitor = experiment.training.monitor or task(part.task).monitor
        if not len(part):
            logger.info("no validation part: the last epoch is taken for the best")
            return
        if experiment.training.monitor is None and any(m.takes_last_epoch for m in experiment.applied_methods()):
            self.monitor = EPOCH
        else:
            self._check_monitor()
        data = experiment.data
        self.choices = data.choices()
        self.own = own_rows(trainer.spread, part)
        self.images = len(self.own) and pipeline.evaluation_dataset(
            self.own, batch_size=experiment.evaluation.batch_size, cache=data.cache, **data.reading()
        )
        outputs, served = trainer.network.output, trainer.served
        names = ["logits", *(name for term in trainer.terms for name in term.needs)]
        self.model = keras.Model(served.input, {**{name: outputs[name] for name in names}, "scores": served.output})

    def measure(self) -> dict[str, float]:
        """All validation metrics by name."""
        if not len(self.part):
            return {}
        outputs = self.model.predict(self.images, verbose=0) if len(self.own) else {}
        outputs = gathered(self.trainer.spread, outputs)
        self.scores = outputs["scores"]
        measured = scalar_metrics(self.part.labels, self.scores, self.part.task, self.threshold)
        if self.loss:
            labels = ops.convert_to_tensor(self.part.labels, "float32")
            measured[self.loss] = float(self.trainer.objective(labels, ops.cast(outputs["logits"], "float32")))
        for term in self.trainer.terms:
            measured |= term.measure(self.part.labels, outputs)
        return measured

    def _check_monitor(self) -> None:
        labels = self.part.labels
        known = [
            *scalar_metrics(labels, np.full(labels.shape, 1 / labels.shape[1]), self.part.task),
            *([self.loss] if self.loss else []),
            *(name for term in self.trainer.terms for name in term.measures),
        ]
        if self.monitor not in known:
            raise UserError(
                f"training.monitor '{self.monitor}' is not a {self.part.task} metric; known: {', '.join(sorted(known))}"
            )
