"""Keeps the state of a training within an epoch too, by steps or minutes, for epochs that last hours."""

from __future__ import annotations

import re
import time
from typing import Any

import keras

from rsml.training.epoch_end import TrainingState


class SaveWithin(keras.callbacks.Callback):
    """Writes the state every so many steps or minutes; what is resumed from it ends as if it had not stopped.

    It follows `EpochEnd`, which refuses a step whose loss is no number.

    Args:
        state: The training state.
        every: A number of steps, or minutes as "10 min".
        steps: Steps of a whole epoch.
    """

    def __init__(self, state: TrainingState, every: int | str, steps: int) -> None:
        super().__init__()
        self.state, self.whole = state, steps
        minutes = re.match(r"[\d.]+", every) if isinstance(every, str) else None
        self.seconds = 60 * float(minutes[0]) if minutes else None
        self.steps = every if isinstance(every, int) else None
        self.first_step, self.saved = 0, time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.first_step = self.state.step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        done = self.first_step + batch + 1
        # The end of the epoch keeps more, and comes by itself.
        if done < self.whole and self._is_due(done):
            self.state.step = done
            self.state.save()
            self.saved = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.saved = time.monotonic()

    def _is_due(self, done: int) -> bool:
        if self.steps is not None:
            return done % self.steps == 0
        return self.seconds is not None and time.monotonic() - self.saved >= self.seconds
