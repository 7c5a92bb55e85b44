"""Predict and measure with a run, or with any saved classifier."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from rsml.data.images import ImageError
from rsml.data.pipeline import evaluation_dataset, naming_bad_images
from rsml.data.readers import read_samples
from rsml.data.samples import Samples
from rsml.data.source import Data
from rsml.data.spelling import match_label, match_labels
from rsml.evaluation.report import headline_table, per_label_table, summary
from rsml.layers.scene_predictions import predictions_layer
from rsml.models import load_model
from rsml.run import ROOT, Run
from rsml.tasks import task
from rsml.utils.errors import UserError
from rsml.utils.files import replacing
from rsml.weights.arrays import find_weights
from rsml.weights.foreign import as_scene_classifier

logger = logging.getLogger(__name__)

SOME_IMAGES_BAD = 3
RESAMPLES = 1000


@dataclass(frozen=True)
class SceneModel:
    """A saved classifier and what its numbers mean.

    Attributes:
        model: Raw images to probabilities.
        labels: Label names, in column order.
        task: "multi-label", "single-label" or "proportions".
        thresholds: `(labels,)`; a label is present when its probability is strictly greater.
        reading: How images must be read for this model: image size, bands, antialiasing.
    """

    model: keras.Model
    labels: tuple[str, ...]
    task: str
    thresholds: np.ndarray
    reading: dict[str, Any]

    @classmethod
    def load(cls, source: str | Path, trust: bool = False, **told: Any) -> SceneModel:
        """Reads a run folder, a `.keras` or a `.h5` file.

        Args:
            source: The file or run folder.
            trust: Let a file run the code it carries.
            **told: What a classifier made elsewhere does not say itself: `labels`, and `task`, `preprocess` and
                `image_size` where they are needed (see `as_scene_classifier`).
        """
        model = load_model(source, trust)
        told = {key: value for key, value in told.items() if value is not None}
        if predictions_layer(model) is None:
            told.setdefault("labels", None)
            model = as_scene_classifier(model, str(source), file=find_weights(source), **told)
        elif told:
            options = ", ".join("--" + key.replace("_", "-") for key in told)
            hint = " (the label file of --data is --label-file)" if "labels" in told else ""
            raise UserError(f"{source}: an rsml model, which says by itself what {options} would; leave it out{hint}")
        return cls.of(model, str(source))

    @classmethod
    def of(cls, model: keras.Model, name: str = "model") -> SceneModel:
        """Wraps a classifier that is in memory."""
        last = predictions_layer(model)
        if last is None:
            raise UserError(
                f"{name}: a Keras model, but not an rsml classifier (it names no labels); give one that train.py made"
            )
        for layer in model.layers:
            nodes = len(getattr(layer, "graph", last.labels))
            if nodes != len(last.labels):
                raise UserError(
                    f"{name}: its layer '{layer.name}' holds a graph of {nodes} labels, but the model has "
                    f"{len(last.labels)}; the file was put together wrongly, train it again"
                )
        bands = model.input_shape[-1]
        unsaid = {} if bands == 3 else {"bands": tuple(range(1, bands + 1))}
        data = Data.model_validate((last.experiment or {}).get("data", unsaid))
        reading = {**data.reading(), "image_size": model.input_shape[1:3]}
        thresholds = np.asarray(last.thresholds or [0.5] * len(last.labels))
        return cls(model, last.labels, last.task, thresholds, reading)

    def save(self, file: str | Path) -> None:
        """Writes the model as one that any other part of rsml takes without being told more."""
        if Path(file).suffix not in (".keras", ".h5"):
            raise UserError(f"{file}: expected a file ending in .keras or .h5 to save the model in")
        with replacing(file) as beside:
            self.model.save(beside)

    def scores(self, samples: Samples | Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Returns `(samples, labels)` probabilities; a bad image is named and ends it."""
        with naming_bad_images(samples, self.reading["bands"], self.reading["value_range"]):
            return self.model.predict(evaluation_dataset(samples, batch_size=batch_size, **self.reading), verbose=0)

    def stream(
        self, paths: Iterable[str], bad: list[ImageError], batch_size: int = 32
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yields each readable image's path and `(labels,)` probabilities in flat memory; faults go into `bad`."""
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
            for row, scores in zip(about["index"].numpy(), self.model.predict_on_batch(images), strict=True):
                yield in_flight.pop(int(row)), scores
        if faults:
            raise faults[0]

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Returns 0/1 decisions of probabilities `(..., labels)`; of shares, the dominant class."""
        return task(self.task).decide(scores, self.thresholds)


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


def split_inputs(inputs: Sequence[str]) -> tuple[str | None, list[str]]:
    """Tells the model from the images: a run folder or a .keras / .h5 file in the first place is the model."""
    if inputs:
        first = Path(inputs[0])
        if (first / "config.json").is_file() or first.suffix.lower() in (".keras", ".h5", ".hdf5"):
            return inputs[0], list(inputs[1:])
    return None, list(inputs)


def open_model(source: str | None, trust: bool = False, **told: Any) -> tuple[SceneModel, Run | None]:
    """Opens a run folder, a checkpoint file, or the newest run; for `told` see `SceneModel.load`."""
    if source is not None and not Path(source).is_dir():
        return SceneModel.load(source, trust, **told), None
    run = Run.open(source) if source is not None else _newest_run()
    return SceneModel.load(run.files.best, trust or run.experiment.model.trust, **told), run


def _newest_run() -> Run:
    try:
        return Run.newest()
    except UserError as fault:
        # Published checkpoints are put into this folder, and which of several is meant nobody knows.
        files = sorted(path for path in ROOT.glob("*") if path.suffix in (".h5", ".hdf5", ".keras"))
        if not files:
            raise
        raise UserError(
            f"{ROOT}/: no run with a model in it, but {len(files)} checkpoint files; name one: "
            f"python predict.py {files[0]} --labels NAMES --data FOLDER"
        ) from fault


def save_model(source: str | None, *, save: str, trust: bool, told: dict[str, Any] | None = None, **_: Any) -> int:
    """Opens a model, with what it is told, and writes it as an rsml model."""
    scene_model, _run = open_model(source, trust, **(told or {}))
    scene_model.save(save)
    print(f"{save}: {scene_model.task}, {len(scene_model.labels)} labels: {', '.join(scene_model.labels)}")
    return 0


def label_images(
    scene_model: SceneModel,
    paths: Iterator[str],
    *,
    out: str | None,
    as_json: bool,
    plain: bool = False,
    batch_size: int,
) -> int:
    """Prints and writes the labels of images; returns 3 if some could not be read."""
    bad: list[ImageError] = []
    done, begun = 0, time.monotonic()
    out = out or "predictions.csv"
    show = _show_json if as_json else _show_line
    first = list(itertools.islice(paths, 1))  # before the file is opened: a wrong name must not empty an older one
    with PredictionWriter(out, scene_model) as writer:
        # On a terminal the printed labels are progress enough.
        rows = scene_model.stream(itertools.chain(first, paths), bad, batch_size)
        for path, scores in tqdm(rows, "Labelling", unit=" images", delay=2, disable=sys.stdout.isatty()):
            writer.write(path, scores)
            done += 1
            if plain:
                _show_plain(scene_model, done, scores)
            else:
                show(scene_model, path, scores)
    for fault in bad:
        print(f"skipped: {fault}", file=sys.stderr)
    rate = done / max(time.monotonic() - begun, 1e-9)
    print(f"{done} images labelled ({rate:.0f}/s), {len(bad)} skipped; scores in {out}", file=sys.stderr)
    return SOME_IMAGES_BAD if bad else 0


def measure_split(
    source: str | None,
    *,
    data: str | None,
    label_file: str | None,
    root: str | None,
    split: str | None,
    out: str | None,
    as_json: bool,
    plain: bool = False,
    batch_size: int,
    trust: bool,
    told: dict[str, Any] | None = None,
    **_: Any,
) -> int:
    """Measures a model on a part of its run's data or of other labelled data; prints tables, writes predictions."""
    scene_model, run = open_model(source, trust, **(told or {}))
    if data is not None:
        samples = align(read_samples(data, labels=label_file), scene_model)
        divided = bool((samples.splits != "").any())
    elif run is not None:
        samples, divided = run.read_samples(root), True
    else:
        raise UserError(f"{source}: a checkpoint file alone knows no data; give images, or labelled data with --data")
    # A published division may have no test part: what chose the model is all there is to measure on.
    split = split or next((side for side in ("test", "valid") if (samples.splits == side).any()), "test")
    part = samples.part(split) if split != "all" and divided else samples
    if not len(part):
        raise UserError(f"{data or run.folder}: its {split} part is empty; choose another with --split")
    scores = scene_model.scores(part, batch_size)
    measured = summary(
        scene_model.task, scene_model.labels, part.labels, scores, scene_model.thresholds, resamples=RESAMPLES
    )
    out = out or str(run.files.predictions if run is not None and data is None else "predictions.csv")
    with replacing(out) as beside, PredictionWriter(beside, scene_model) as writer:
        writer.write_all(part.paths, scores)
    if as_json:
        print(json.dumps(measured))
    else:
        if plain:
            for number, row in enumerate(scores, 1):
                _show_plain(scene_model, number, row)
        print(f"{split if divided else 'all'} part:")
        print(headline_table(measured))
        print(per_label_table(measured))
        print(f"scores and decisions: {out}")
    return 0


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


def _show_line(scene_model: SceneModel, path: str, scores: np.ndarray) -> None:
    named = task(scene_model.task).named(scores, scene_model.thresholds)
    present = sorted(np.flatnonzero(named), key=lambda column: -scores[column])
    print(f"{path}: " + (", ".join(f"{scene_model.labels[c]} {scores[c]:.2f}" for c in present) or "(no label)"))


def _show_plain(scene_model: SceneModel, number: int, scores: np.ndarray) -> None:
    named = [name for name, said in zip(scene_model.labels, scene_model.decide(scores), strict=True) if said]
    print(f"Image {number} = {', '.join(named) or '(no label)'}")


def _show_json(scene_model: SceneModel, path: str, scores: np.ndarray) -> None:
    present = [name for name, said in zip(scene_model.labels, scene_model.decide(scores), strict=True) if said]
    by_name = {name: round(float(score), 6) for name, score in zip(scene_model.labels, scores, strict=True)}
    print(json.dumps({"path": path, "labels": present, "scores": by_name}))
