"""Images on which a model's promise cannot be kept with a plain answer, listed for a person to look at."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rsml.evaluation.promises import Promise
from rsml.layers.scene_predictions import predictions_layer
from rsml.prediction.scene_model import SceneModel
from rsml.utils.errors import UserError


class UnsureImages:
    """Writes one row an image that the model abstains from: its path and the labels that come into question.

    Args:
        model: A model with a promise.
        file: The table.
        show: What is called with every image besides, sure or not.
    """

    def __init__(self, model: SceneModel, file: str | Path, show: Callable[[str, np.ndarray], None]) -> None:
        last = predictions_layer(model.model)
        if last is None or last.promise is None:
            raise UserError(
                f"--unsure {file}: the model promises nothing; train it with "
                "--set evaluation.thresholds='recall>=0.95' (or precision>=0.9)"
            )
        self.promise, self.labels, self.show, self.count = Promise(**last.promise), model.labels, show, 0
        self._file = open(file, "w", encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(["path", "named", "scores"])

    def __enter__(self) -> UnsureImages:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __call__(self, path: str, scores: np.ndarray) -> None:
        """Takes one image."""
        self.show(path, scores)
        if self.promise.unsure(scores[None])[0]:
            named = np.flatnonzero(self.promise.named(scores[None])[0])
            named = named[np.argsort(-scores[named], kind="stable")]
            self._rows.writerow(
                [path, " ".join(self.labels[k] for k in named), " ".join(f"{scores[k]:.4f}" for k in named)]
            )
            self.count += 1
