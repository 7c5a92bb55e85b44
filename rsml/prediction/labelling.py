"""Label images with a model, measure it on labelled ones, and the table of predictions that both write."""

from __future__ import annotations

import csv
import itertools
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rsml.data.images import ImageError
from rsml.data.readers import read_samples
from rsml.data.samples import SPLITS, Samples
from rsml.data.spelling import match_label, match_labels
from rsml.evaluation.report import summary
from rsml.prediction.scene_model import SceneModel
from rsml.run import Run
from rsml.utils.errors import UserError
from rsml.utils.files import replacing
from rsml.utils.progress import progress_bar

RESAMPLES = 1000


class PredictionWriter:
    """Writes `path`, one score and one decision column a label, row by row.

    Args:
        file: The CSV file.
        model: Gives the label names and decides.
    """

    def __init__(self, file: str | Path, model: SceneModel) -> None:
        self.model = model
        self._file = open(file, "w", encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(["path", *(f"score {name}" for name in model.labels), *model.labels])

    def __enter__(self) -> PredictionWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, path: str, scores: np.ndarray) -> None:
        """Writes one image."""
        self._rows.writerow([path, *(f"{score:.6f}" for score in scores), *self.model.decide(scores)])

    def write_all(self, paths: Iterable[str], scores: Iterable[np.ndarray]) -> None:
        """Writes many."""
        for path, row in zip(paths, scores, strict=True):
            self.write(path, row)


@dataclass(frozen=True)
class Labelled:
    """What came of labelling images.

    Attributes:
        images: How many were labelled.
        bad: Those that could not be read.
        seconds: How long it took.
        table: The file of scores and decisions.
    """

    images: int
    bad: list[ImageError]
    seconds: float
    table: Path


def label_images(
    scene_model: SceneModel,
    paths: Iterable[str],
    *,
    out: str | Path = "predictions.csv",
    batch_size: int = 32,
    show: Callable[[str, np.ndarray], None] | None = None,
) -> Labelled:
    """Writes the scores and labels of images, in flat memory.

    Args:
        scene_model: The model.
        paths: Images, one after the other.
        out: The table.
        batch_size: Images a step.
        show: Called with each path and its scores.
    """
    bad: list[ImageError] = []
    done, begun = 0, time.monotonic()
    paths = iter(paths)
    first = list(itertools.islice(paths, 1))  # before the file is opened: a wrong name must not empty an older one
    with PredictionWriter(out, scene_model) as writer:
        rows: Iterable[tuple[str, np.ndarray]] = scene_model.stream(itertools.chain(first, paths), bad, batch_size)
        if show is None or not sys.stdout.isatty():  # on a terminal the printed labels are progress enough
            rows = progress_bar(rows, title="labelling", unit="images")
        for path, scores in rows:
            writer.write(path, scores)
            done += 1
            if show is not None:
                show(path, scores)
    return Labelled(done, bad, time.monotonic() - begun, Path(out))


@dataclass(frozen=True)
class Measured:
    """How a model does on labelled images.

    Attributes:
        split: The part that was measured; "all" where the data are not divided.
        samples: Its images.
        scores: `(images, labels)`.
        summary: The measures, as metrics.json has them.
        table: The file of scores and decisions.
    """

    split: str
    samples: Samples
    scores: np.ndarray
    summary: dict[str, Any]
    table: Path


def measure_split(
    scene_model: SceneModel,
    run: Run | None = None,
    *,
    data: str | Path | None = None,
    labels: str | Path | None = None,
    root: str | Path | None = None,
    split: str | None = None,
    out: str | Path | None = None,
    batch_size: int = 32,
) -> Measured:
    """Measures a model on a part of its run's data or of other labelled data, and writes its predictions.

    Args:
        scene_model: The model.
        run: Its run, if it has one.
        data: Labelled data instead of the run's.
        labels: Label file of the data.
        root: Where the run's images lie now.
        split: The part; None is test, or valid where there is no test part.
        out: The table; None is the run's predictions.csv for its own data, else predictions.csv here.
        batch_size: Images a step.
    """
    if data is not None:
        samples = align(read_samples(data, labels=labels), scene_model)
    elif run is not None:
        samples = run.read_samples(root)
    else:
        raise UserError("a checkpoint file alone knows no data; give images, or labelled data with --data")
    parts = [side for side in SPLITS if len(samples.part(side))]
    # A published division may have no test part: what chose the model is all there is to measure on.
    split = split or next((side for side in ("test", "valid") if side in parts), "test")
    split = split if parts else "all"
    part = samples if split == "all" else samples.part(split)
    if not len(part):
        raise UserError(f"{data or samples.root}: its {split} part is empty; choose another with --split")
    scores = scene_model.scores(part, batch_size)
    measured = summary(
        scene_model.task, scene_model.labels, part.labels, scores, scene_model.thresholds, resamples=RESAMPLES
    )
    out = Path(out or (run.files.predictions if run is not None and data is None else "predictions.csv"))
    with replacing(out) as beside, PredictionWriter(beside, scene_model) as writer:
        writer.write_all(part.paths, scores)
    return Measured(split, part, scores, measured, out)


def align(samples: Samples, scene_model: SceneModel) -> Samples:
    """Returns the samples with the model's labels in the model's order, however the data spells them."""
    if samples.task != scene_model.task:
        raise UserError(
            f"{samples.root}: {samples.task} data, but the model is {scene_model.task}; give data of its kind"
        )
    matched = match_labels(samples.label_names, scene_model.labels)
    if matched is None:
        strange = [name for name in samples.label_names if match_label(name, scene_model.labels) is None]
        missing = len(scene_model.labels) - len(samples.label_names) + len(strange)
        what = f"unknown to it: {', '.join(strange[:5])}" if strange else f"{missing} of the model's labels are missing"
        raise UserError(
            f"{samples.root}: {len(samples.label_names)} labels, not the model's {len(scene_model.labels)} ({what}); "
            "give data labelled like the training data"
        )
    column = {model_name: name for name, model_name in matched.items()}
    order = [samples.label_names.index(column[name]) for name in scene_model.labels]
    return replace(samples, labels=samples.labels[:, order], label_names=tuple(scene_model.labels))
