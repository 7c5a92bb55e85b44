"""Callbacks beside those that a training cannot do without: other packages' by import path, TensorBoard."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg

from rsml.config import Callback
from rsml.data.images import picture
from rsml.figures.panels import score_panel
from rsml.training.validation import Validation
from rsml.utils.errors import UserError

logger = logging.getLogger(__name__)
_SHOWN = 6


def load_callbacks(named: Sequence[Callback]) -> list[keras.callbacks.Callback]:
    """Makes the callbacks that a config names."""
    return [_load(one) for one in named]


def _load(named: Callback) -> keras.callbacks.Callback:
    module, _, name = named.use.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
        callback = found(**named.options)
    except Exception as error:  # What other packages raise is theirs to choose.
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        raise UserError(
            f"training.callbacks: {named.use} cannot be made ({type(error).__name__}: {reason}); "
            "check that its package is installed and that options are those of the class"
        ) from error
    if not isinstance(callback, keras.callbacks.Callback):
        raise UserError(f"training.callbacks: {named.use} is no keras.callbacks.Callback; give the path of one")
    return callback


class Board(keras.callbacks.TensorBoard):
    """TensorBoard with every column of the history, and what the model says of a few validation images.

    Args:
        folder: Where the logs go.
        validation: Its part and scores are shown.
        pictures: Whether images are drawn.
    """

    def __init__(self, folder: Path, validation: Validation, pictures: bool) -> None:
        super().__init__(str(folder), write_graph=False)
        self.validation = validation
        part = validation.part
        self.rows = np.unique(np.linspace(0, len(part) - 1, _SHOWN).astype(int)) if len(part) and pictures else []
        self.writer = tf.summary.create_file_writer(str(folder / "pictures")) if len(self.rows) else None
        self.images: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self.writer is None:
            return
        try:
            with self.writer.as_default():
                tf.summary.image("predictions of validation images", self._picture(), step=epoch)
            self.writer.flush()
        except Exception as error:  # A picture must not end a training.
            logger.warning("TensorBoard shows no images: %s: %s", type(error).__name__, error)
            self.writer = None

    def _picture(self) -> np.ndarray:
        part = self.validation.part
        self.images = self.images or [picture(file, **self.validation.choices) for file in part.files[self.rows]]
        figure = score_panel(
            self.images, part.present[self.rows], self.validation.scores[self.rows], part.label_names, top=5
        )
        figure.set_dpi(80)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[None, ..., :3]


class ShortLine(keras.callbacks.Callback):
    """Leaves to the progress bar, which is called last, only what a line has room for.

    Args:
        headline: Validation metrics that stay, beside the parts of the loss.
    """

    def __init__(self, headline: Sequence[str]) -> None:
        super().__init__()
        self.headline = {f"val_{name}" for name in headline}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        for name in list(logs):
            if (name.startswith("val_") and name not in self.headline) or name.endswith("learning_rate"):
                del logs[name]
