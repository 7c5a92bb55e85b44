"""What is decided and written at the end of an epoch: best so far, early stop, plateau, the state to resume from."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rsml.config import Training
from rsml.evaluation.scalars import LOWER_IS_BETTER
from rsml.run import Run
from rsml.training.optimizers import averaged
from rsml.training.trainer import Trainer
from rsml.training.validation import Validation
from rsml.utils.errors import UserError
from rsml.utils.files import replacing
from rsml.utils.guard import Damaged, parse_json, read_npz
from rsml.utils.text import counted

logger = logging.getLogger(__name__)

_PREVIOUS = "state.previous"


class TrainingState:
    """Everything a training needs to go on as if it had not stopped, in one file that is replaced as a whole.

    Keras's BackupAndRestore leaves out early stopping, plateau and best-so-far, and writes several files.

    Args:
        trainer: The model that `fit` drives, its optimizer built.
        run: Where the state is kept.
    """

    def __init__(self, trainer: Trainer, run: Run) -> None:
        self.trainer, self.run = trainer, run
        self.epoch = 0
        self.step = 0
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.since_best = 0
        self.since_drop = 0
        self.stopped = False
        self.rows: list[dict[str, Any]] = []
        self._means: list[np.ndarray] = []

    @property
    def schedule(self) -> Any:
        """The optimizer's schedule, whose plateau scale is part of the state."""
        return self._optimizer._learning_rate

    @property
    def _optimizer(self) -> Any:
        return getattr(self.trainer.optimizer, "inner_optimizer", self.trainer.optimizer)

    def rates(self) -> dict[str, float]:
        """The rates of the step to come: of the new parts, and of the backbone where it has its own."""
        rate, of_backbone = float(self.schedule(self.trainer.optimizer.iterations)), self._optimizer.backbone_rate
        own = {} if of_backbone == 1 else {"backbone_learning_rate": rate * of_backbone}
        return {"learning_rate": rate, **own}

    def reached(self) -> str:
        """How far it is, in words."""
        return f"{counted(self.epoch, 'epoch')}" + (f" and {counted(self.step, 'step')}" if self.step else "")

    def legs(self, phases: Iterable[tuple[int, bool, int]]) -> Iterator[tuple[int, bool, int]]:
        """The phases of a training, an epoch that was left within it apart: it has fewer steps to go."""
        for until, frozen, size in phases:
            if self.step and self.epoch < until:
                yield self.epoch + 1, frozen, size
            yield until, frozen, size

    def _variables(self) -> list[Any]:
        skipped = {id(variable) for metric in self.trainer.metrics for variable in metric.variables}
        return [v for v in self.trainer.variables if id(v) not in skipped] + list(self.trainer.optimizer.variables)

    def save(self) -> None:
        """Replaces the state file; this is the moment at which an epoch, or a part of it, counts as done."""
        if not self.run.writes:
            return
        about = {
            key: getattr(self, key)
            for key in ("epoch", "step", "best", "best_epoch", "since_best", "since_drop", "stopped", "rows")
        }
        about["scale"] = float(self.schedule.scale.numpy())
        arrays: dict[str, Any] = {
            f"v{position}": np.asarray(variable) for position, variable in enumerate(self._variables())
        }
        if self.step:
            # Of an epoch that is not over, what its loss is the mean of.
            arrays |= {f"m{position}": np.asarray(variable) for position, variable in enumerate(self._running())}
        kept = self.run.files.state
        if kept.is_file():
            # A pair: training goes on from the epoch before if the newest state is damaged.
            _keep_as(kept, kept.with_stem(_PREVIOUS))
        with replacing(kept) as beside:
            np.savez(beside, about=np.array(json.dumps(about)), **arrays)

    def _running(self) -> list[Any]:
        return [variable for metric in self.trainer.metrics for variable in metric.variables]

    def _read(self) -> tuple[dict[str, Any], list[np.ndarray], list[np.ndarray]]:
        """What the newest state holds, or the one before it where that is damaged."""
        newest = self.run.files.state
        try:
            return _read_state(newest)
        except Damaged as fault:
            before = newest.with_stem(_PREVIOUS)
            if not before.is_file():
                raise
            logger.info("%s; going on from the state before it", str(fault).rpartition(";")[0])
            found = _read_state(before)
            if self.run.writes:
                # In the damaged one's place, or the next save would make the damaged one the spare.
                _keep_as(before, newest)
            return found

    def load(self) -> bool:
        """Takes up the kept state; returns whether there was one."""
        if not self.run.files.state.is_file():
            return False
        variables = self._variables()
        about, arrays, self._means = self._read()
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
            raise UserError(
                f"{self.run.files.state}: its {len(arrays)} variables do not fit the {len(variables)} of this network; "
                "the code or a library changed since; start the run over with --fresh"
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self.schedule.scale.assign(about.pop("scale"))
        for key, value in about.items():
            setattr(self, key, value)
        return True

    def go_on_within(self) -> None:
        """Takes up the means of an epoch that is not over, which Keras has just set back."""
        for variable, mean in zip(self._running(), self._means, strict=True):
            variable.assign(mean)
        self._means = []


def _read_state(path: Path) -> tuple[dict[str, Any], list[np.ndarray], list[np.ndarray]]:
    advice = "start the run over with --fresh"
    kept = read_npz(path, advice=advice)
    text = str(kept.pop("about", ""))
    # Figures of an epoch may be NaN, as those of a label that is absent.
    about = parse_json(text, f"{path}: about in it", allow_nan=True, advice=advice)
    found = [[kept[name] for name in _numbered(kept, letter)] for letter in "vm"]
    if sum(map(len, found)) != len(kept) or "epoch" not in about or bool(about.get("step")) != bool(found[1]):
        raise Damaged(f"{path}: lacks some of its variables; {advice}")
    return about, found[0], found[1]


def _numbered(names: Collection[str], letter: str) -> list[str]:
    return list(takewhile(lambda name: name in names, (f"{letter}{number}" for number in range(len(names)))))


def _keep_as(file: Path, other: Path) -> None:
    """Makes a file known by another name too, in place of what had that name; a copy where links cannot be made."""
    if other.is_file() and other.samefile(file):
        return
    with replacing(other) as beside:
        try:
            os.link(file, beside)
        except OSError:
            shutil.copyfile(file, beside)


class EpochEnd(keras.callbacks.Callback):
    """Validates, decides and writes after every epoch, in an order that survives a kill at any moment.

    The models are written before the state: killed between the two, the epoch is run again and writes the same models.

    Args:
        state: The training state.
        options: The training options.
        validation: Measures the epoch and names what chooses the best one.
    """

    def __init__(self, state: TrainingState, options: Training, validation: Validation) -> None:
        super().__init__()
        self.state, self.options, self.validation = state, options, validation
        self.epoch = self.first_step = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch, self.first_step = epoch, self.state.step
        self.state.trainer.begin_epoch(epoch)
        if self.state.step:
            self.state.go_on_within()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            kept = (
                f"the last good model is epoch {self.state.epoch}'s, {self.state.run.files.last}"
                if self.state.epoch
                else "no epoch was finished"
            )
            raise UserError(
                f"loss became {loss} in epoch {self.epoch + 1}, step {self.first_step + batch + 1}; {kept}; "
                "lower training.learning_rate, or use training.precision=float32"
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs if logs is not None else {}
        with averaged(self.model.optimizer):
            self._finish(epoch, logs)
        # The state holds the weights that training goes on with, and is written last.
        self.state.save()

    def _finish(self, epoch: int, logs: dict[str, Any]) -> None:
        measured = self.validation.measure()
        # Without a validation part nothing is measured, and every epoch counts as better than the one before.
        state, value = self.state, measured.get(self.validation.monitor, float(epoch))
        row = {**state.rates(), **{key: float(number) for key, number in logs.items()}}
        row |= {f"val_{name}": number for name, number in measured.items()}
        logs |= row  # for the callbacks that follow
        better = not math.isnan(value) and (state.best is None or self._gain(value, state.best) > 0)
        if better:
            state.best, state.best_epoch, state.since_best, state.since_drop = value, epoch + 1, 0, 0
        else:
            state.since_best += 1
            state.since_drop += 1
        if self.options.schedule == "plateau" and state.since_drop >= self.options.plateau_patience:
            state.schedule.scale.assign(state.schedule.scale * self.options.step_factor)
            state.since_drop = 0
        state.stopped = self.options.patience is not None and state.since_best >= self.options.patience
        state.epoch, state.step = epoch + 1, 0
        state.rows.append({"epoch": epoch + 1, **row})
        if better or state.best is None:
            state.run.write_model(state.trainer.served, state.run.files.best)
        state.run.write_model(state.trainer.served, state.run.files.last)
        state.run.write_history(state.rows)
        if state.stopped:
            self.model.stop_training = True

    def _gain(self, value: float, best: float) -> float:
        return best - value if self.validation.monitor in LOWER_IS_BETTER else value - best
