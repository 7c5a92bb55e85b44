"""A saved classifier, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from rsml.data.images import ImageError, resize
from rsml.data.options import Data
from rsml.data.pipeline import evaluation_dataset, naming_bad_images, plain_resize
from rsml.data.samples import Samples
from rsml.layers.scene_predictions import predictions_layer
from rsml.models import load_model
from rsml.models.fingerprint import fingerprint
from rsml.prediction.find_model import check_model_name, find_model
from rsml.prediction.views import Views
from rsml.run import Run
from rsml.tasks import Task, task
from rsml.utils.errors import UserError
from rsml.utils.files import replacing
from rsml.utils.guard.memory import check_fits_memory
from rsml.weights.arrays import find_weights
from rsml.weights.foreign import as_scene_classifier

_SMALLER = "make the batch smaller"


@dataclass(frozen=True)
class SceneModel:
    """A saved classifier and what its numbers mean.

    Attributes:
        model: Raw images to probabilities.
        labels: Label names, in column order.
        task: "multi-label", "single-label" or "proportions".
        thresholds: `(labels,)`; a label is present when its probability is strictly greater.
        reading: How images must be read for this model: image size, bands, antialiasing.
        views: How many flips and quarter turns of an image its scores are the mean of.
    """

    model: keras.Model
    labels: tuple[str, ...]
    task: Task
    thresholds: np.ndarray
    reading: dict[str, Any]
    views: int = 1

    @classmethod
    def load(
        cls,
        source: str | Path,
        trust: bool = False,
        *,
        labels: Sequence[str] | None = None,
        task: Literal["single-label", "multi-label"] | None = None,
        preprocess: str | None = None,
        image_size: tuple[int, int] | None = None,
        unnamed: Sequence[str] | None = None,
    ) -> SceneModel:
        """Reads a run folder, a `.keras` or a `.h5` file; of a file of another hand also what it does not say itself.

        Args:
            source: The file or run folder.
            trust: Let a file run the code it carries.
            labels: Names of its classes.
            task: See `as_scene_classifier`, as for the next two.
            preprocess: How it wants its pixels.
            image_size: Height and width of its images.
            unnamed: Names of its classes if it names none; no contradiction if it does.
        """
        model = load_model(source, trust)
        if predictions_layer(model) is None:
            model = as_scene_classifier(
                model,
                str(source),
                labels=labels or unnamed,
                task=task,
                preprocess=preprocess,
                image_size=image_size,
                file=find_weights(source),
            )
        else:
            options = {"class names": labels, "task": task, "preprocess": preprocess, "image size": image_size}
            if given := [name for name, value in options.items() if value is not None]:
                raise UserError(f"{source}: an rsml model, which says by itself its {', '.join(given)}; leave that out")
        return cls.of(model, str(source))

    @classmethod
    def of(cls, model: keras.Model, name: str = "model") -> SceneModel:
        """Wraps a classifier that is in memory."""
        last = predictions_layer(model)
        if last is None:
            raise UserError(
                f"{name}: a Keras model, but not an rsml classifier (it names no labels); give one that rsml trained"
            )
        for layer in model.layers:
            nodes = len(getattr(layer, "graph", last.labels))
            if nodes != len(last.labels):
                raise UserError(
                    f"{name}: its layer '{layer.name}' holds a graph of {nodes} labels, but the model has "
                    f"{len(last.labels)}; the file was put together wrongly, train it again"
                )
        bands = model.input_shape[-1]
        unnamed_bands = {} if bands == 3 else {"bands": tuple(range(1, bands + 1))}
        experiment = last.experiment or {}
        data = Data.model_validate(experiment.get("data", unnamed_bands))
        views = experiment.get("evaluation", {}).get("views", 1)
        reading = {**data.reading(), "image_size": model.input_shape[1:3]}
        thresholds = np.asarray(last.thresholds or [0.5] * len(last.labels))
        return cls(model, last.labels, last.task, thresholds, reading, views)

    def save(self, file: str | Path) -> None:
        """Writes the model as one that any other part of rsml takes without further options."""
        check_model_name(file)
        with replacing(file) as beside:
            self.model.save(beside)

    @cached_property
    def fingerprint(self) -> str:
        """What tells this model, and what its numbers mean, from others."""
        last = predictions_layer(self.model)
        about = {
            "labels": self.labels,
            "task": self.task,
            "thresholds": np.asarray(self.thresholds).tolist(),
            "calibration": last.calibration if last else None,
            "reading": self.reading,
            "views": self.views,
        }
        return fingerprint(self.model, about)

    def fit(self, image: np.ndarray) -> np.ndarray:
        """An image `(h, w, bands)` uint8 in the size that the model takes, as images are read for it."""
        height, width = self.reading["image_size"]
        if self.reading["antialias"]:
            return resize(image, (height, width))
        return np.asarray(plain_resize(image, (height, width, image.shape[2])))

    @cached_property
    def predictor(self) -> keras.Model:
        """What is asked for scores: the model, or the mean over an image's views."""
        return self.model if self.views == 1 else Views(self.model, self.views)

    def scores(self, samples: Samples | Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Returns `(samples, labels)` probabilities; a bad image is named and ends it."""
        check_fits_memory(self.model, min(batch_size, len(samples)), advice=_SMALLER)
        with naming_bad_images(samples, self.reading["bands"], self.reading["value_range"]):
            return self.predictor.predict(evaluation_dataset(samples, batch_size=batch_size, **self.reading), verbose=0)

    def stream(
        self, paths: Iterable[str], bad: list[ImageError], batch_size: int = 32
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yields each readable image's path and `(labels,)` probabilities in flat memory; faults go into `bad`."""
        check_fits_memory(self.model, batch_size, advice=_SMALLER)
        in_flight: dict[int, str] = {}
        faults: list[Exception] = []

        def remembered() -> Iterator[str]:
            # A fault in finding images must reach the caller as it is, not as TensorFlow's report of it.
            try:
                for row, path in enumerate(paths):
                    in_flight[row] = path
                    yield path
            except UserError as fault:
                faults.append(fault)

        options = {"batch_size": batch_size, "on_bad": "skip", "bad": bad, **self.reading}
        for images, about in evaluation_dataset(remembered(), **options):
            for row, scores in zip(about["index"].numpy(), self.predictor.predict_on_batch(images), strict=True):
                yield in_flight.pop(int(row)), scores
        if faults:
            raise faults[0]

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Returns 0/1 decisions of probabilities `(..., labels)`; of shares, the dominant class."""
        return task(self.task).decide(scores, self.thresholds)


def open_model(
    source: str | Path | None, trust: bool = False, unnamed: Sequence[str] | None = None
) -> tuple[SceneModel, Run | None]:
    """Opens a run folder, a checkpoint file, or the newest run; see `find_model` and `SceneModel.load`."""
    file, run = find_model(source)
    trust = trust or (run is not None and run.experiment.model.trust)
    return SceneModel.load(file, trust, unnamed=unnamed), run
