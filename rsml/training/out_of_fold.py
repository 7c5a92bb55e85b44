"""Score every image with a model that never saw it, and write down which labels are suspect."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression

from rsml.config import Experiment
from rsml.data.images import picture
from rsml.data.pipeline import evaluation_dataset, naming_bad_images
from rsml.data.samples import Samples
from rsml.data.stratify import stratify
from rsml.evaluation.suspects import Suspect
from rsml.figures.panels import Mistake, mistakes_sheet
from rsml.figures.style import save
from rsml.models import load_backbone
from rsml.prediction.scene_model import open_model
from rsml.tasks import task
from rsml.utils.errors import UserError
from rsml.utils.files import replacing
from rsml.utils.progress import progress_bar

logger = logging.getLogger(__name__)
STRENGTH = 0.001
"""Inverse strength of the penalty on standardised features: many features, few images, and labels that may lie."""


def folds_of(samples: Samples, folds: int, seed: int = 0) -> np.ndarray:
    """The fold of each image, stratified by labels."""
    if task(samples.task).shares:
        raise UserError(f"{samples.root}: shares of classes are not right or wrong; give multi- or single-label data")
    if not 2 <= folds <= len(samples):
        raise UserError(f"--folds {folds}: expected 2 to {len(samples)}, the number of images")
    return stratify(samples.labels, [1] * folds, seed)


def scores_of_features(features: np.ndarray, samples: Samples, folds: np.ndarray) -> np.ndarray:
    """Out-of-fold probabilities `(images, labels)` of logistic regressions on frozen features.

    Args:
        features: `(images, channels)`.
        samples: The images and their labels.
        folds: Of each image.
    """
    scores = np.zeros(samples.labels.shape, np.float32)
    for fold in progress_bar(np.unique(folds), title="scoring", unit="folds"):
        learned, left_out = folds != fold, folds == fold
        mean, spread = features[learned].mean(axis=0), features[learned].std(axis=0) + 1e-6
        inside, outside = ((features[rows] - mean) / spread for rows in (learned, left_out))
        if task(samples.task).one_class:
            model = LogisticRegression(C=STRENGTH, max_iter=300).fit(inside, samples.classes[learned])
            scores[np.ix_(left_out, model.classes_)] = model.predict_proba(outside)
            continue
        for column, truth in enumerate(samples.labels[learned].T):
            if len(np.unique(truth)) == 1:
                scores[left_out, column] = truth[0]
                continue
            model = LogisticRegression(C=STRENGTH, max_iter=300).fit(inside, truth)
            scores[left_out, column] = model.predict_proba(outside)[:, 1]
    return scores


def frozen_features(samples: Samples, backbone: str, weights: str | None, image_size: int) -> np.ndarray:
    """Pooled features `(images, channels)` of a backbone that is not trained on these images.

    Args:
        samples: The images.
        backbone: As `rsml.config.Model` takes it.
        weights: The same.
        image_size: Side that images are resized to.
    """
    if Path(backbone, "config.json").is_file():
        raise UserError(
            f"{backbone}: a run, which may have learned these very labels; give a backbone with weights of other images"
        )
    core = load_backbone(backbone, image_size=image_size, weights=weights)
    if not core.pretrained:
        raise UserError(f"{backbone}: has random weights, whose features say nothing; add --weights FILE or imagenet")
    model = keras.Model(core.model.input, keras.layers.GlobalAveragePooling2D()(core.model.output))
    images = evaluation_dataset(samples, batch_size=32, image_size=image_size)
    with naming_bad_images(samples):
        bar = progress_bar(images, title="embedding", unit="batches", total=-(-len(samples) // 32))
        return np.concatenate([model.predict_on_batch(batch) for batch, _ in bar])


def scores_of_training(experiment: Experiment, samples: Samples, folds: np.ndarray, out: Path) -> np.ndarray:
    """Out-of-fold probabilities of models that an experiment trains, one run a fold, all resumed when begun.

    A tenth of what a fold learns from chooses its epoch.

    Args:
        experiment: What is trained; its data are those of `samples`.
        samples: The images and their labels.
        folds: Of each image.
        out: Folder of the runs.
    """
    from rsml.training.loop import train

    scores = np.zeros(samples.labels.shape, np.float32)
    for fold in np.unique(folds):
        learned = np.flatnonzero(folds != fold)
        splits = np.full(len(samples), "test", dtype="<U5")
        splits[learned] = np.where(stratify(samples.labels[learned], [9, 1], experiment.seed) == 1, "valid", "train")
        divided = replace(samples.with_splits(splits), paths=samples.files)
        source = out / f"fold{fold}.csv"
        divided.write_csv(source)
        values = experiment.dump()
        values["name"] = f"fold{fold}"
        values["data"] |= {"source": str(source), "task": samples.task, "labels": None, "split_files": None}
        values["evaluation"] |= {"figures": False, "page": False, "resamples": 0}
        run = train(Experiment.parse(values), root=out)
        rows = np.flatnonzero(folds == fold)
        model = open_model(run.folder)[0]
        order = [model.labels.index(name) for name in samples.label_names]
        scores[rows] = model.scores(replace(divided.select(rows), root=Path(".")))[:, order]
    return scores


def write_suspects(found: Sequence[Suspect], samples: Samples, out: Path, sheet: int = 48) -> None:
    """Writes suspects.csv, all of them, and suspects.jpg, a contact sheet of the first.

    Args:
        found: The most suspect first.
        samples: The images and their labels.
        out: The folder.
        sheet: Images in the contact sheet.
    """
    names = samples.label_names
    with replacing(out / "suspects.csv") as beside, open(beside, "w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["rank", "path", "probably_wrong", "probably_missing", "score", "doubt"])
        for rank, one in enumerate(found, 1):
            labels = ["" if column is None else names[column] for column in (one.given, one.likely)]
            rows.writerow([rank, samples.paths[one.image], *labels, f"{one.score:.4f}", f"{one.doubt:.4f}"])
    shown = found[:sheet]
    if shown:
        # On the sheet blue is the label that stands there and should not, red the one that should.
        mistakes = [Mistake(one.image, one.given, one.likely, one.score) for one in shown]
        files = samples.files[[one.image for one in shown]]
        pictures = [picture(file) for file in files]
        figure = mistakes_sheet(pictures, mistakes, names, [Path(file).name for file in files])
        figure.suptitle("blue: given, but probably wrong   red: probably missing", fontsize=9)
        save(figure, out / "suspects.jpg")
