"""Several runs as one served model: the mean of their weights, or of their logits, whichever validates better."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from rsml.evaluation.scalars import LOWER_IS_BETTER, scalar_metrics
from rsml.layers.scene_predictions import ScenePredictions, logits_of, predictions_of
from rsml.prediction.scene_model import SceneModel, open_model
from rsml.run import ROOT, Run
from rsml.tasks import task
from rsml.training.finish import evaluate_run
from rsml.utils.errors import UserError
from rsml.utils.locks import lock

logger = logging.getLogger(__name__)


def average_runs(
    folders: Sequence[str | Path], name: str, *, how: str = "best", root: str | Path = ROOT, fresh: bool = False
) -> Run:
    """Joins trained runs into one model in a run folder of its own, measured as theirs were.

    Args:
        folders: Runs of the same images, labels and division: several seeds of one experiment, or other experiments.
        name: Of the new run.
        how: "soup" (mean of the weights; one network's cost), "ensemble" (mean of the logits; the cost of all), or
            "best": the one that validates better, the soup where they are alike.
        root: Folder of the new run.
        fresh: Write over a run of that name.
    """
    runs = [Run.open(folder) for folder in folders]
    if len(runs) < 2:
        raise UserError(f"rsml average: expected two runs or more, found {len(runs)}")
    experiment = runs[0].experiment.model_copy(update={"name": name})
    target = Run(Path(root) / name)
    if target.files.config.is_file() and not fresh:
        raise UserError(f"{target.folder}: there is a run of that name; give another --name, or --fresh")
    samples = runs[0].samples
    for run in runs[1:]:
        if run.samples.fingerprint() != samples.fingerprint():
            raise UserError(
                f"{run.folder}: has other images, labels or parts than {runs[0].folder}; give runs of one division"
            )
    models = [open_model(run.folder)[0] for run in runs]
    for run, model in zip(runs[1:], models[1:], strict=True):
        for what in ("labels", "task", "reading"):
            if getattr(model, what) != getattr(models[0], what):
                raise UserError(
                    f"{run.folder}: its {what} differ from those of {runs[0].folder}; give runs that are alike"
                )

    valid = samples.part("valid")
    made: dict[str, Callable[[], keras.Model]] = {"soup": lambda: soup(models), "ensemble": lambda: ensemble(models)}
    if how != "best":
        chosen = made[how]()
    elif not len(valid):
        raise UserError(f"{runs[0].folder}: has no validation part to choose by; say --how soup or --how ensemble")
    else:
        row = task(samples.task)
        known = scalar_metrics(valid.labels, np.full(valid.labels.shape, 1 / valid.labels.shape[1]), samples.task)
        # A loss, or what a method's term measures, is no measure of a saved model.
        monitor = experiment.training.monitor if experiment.training.monitor in known else row.monitor
        candidates: dict[str, tuple[float, keras.Model]] = {}
        for kind, make in made.items():
            try:
                candidate = make()
            except UserError as fault:
                logger.info("no %s: %s", kind, fault)
                continue
            scores = SceneModel.of(candidate).scores(valid, experiment.evaluation.batch_size)
            value = scalar_metrics(valid.labels, scores, samples.task)[monitor]
            logger.info("%s: %s of the validation part %.4f", kind, monitor, value)
            candidates[kind] = (-value if monitor in LOWER_IS_BETTER else value), candidate
        # The first of equals is the soup, which costs one network.
        kind = max(candidates, key=lambda kind: candidates[kind][0])
        logger.info("the %s is taken", kind)
        chosen = candidates[kind][1]

    with lock(target.folder, "averaging"):
        target = Run.start(experiment, Path(root), fresh)
        target.write_samples(samples)
        target.write_model(chosen, target.files.best)
        evaluate_run(target, experiment, samples)
    return target


def soup(models: Sequence[SceneModel]) -> keras.Model:
    """The first model with the mean of all models' weights, statistics of batch norms included."""
    first, *others = (model.model for model in models)
    shapes = [weight.shape for weight in first.weights]
    for other in others:
        if [weight.shape for weight in other.weights] != shapes:
            raise UserError("their networks differ, and weights of one network alone can be averaged")
    result = keras.models.clone_model(first)
    result.set_weights(
        [np.mean(values, axis=0) for values in zip(*(m.get_weights() for m in (first, *others)), strict=True)]
    )
    return _fresh(result)


def ensemble(models: Sequence[SceneModel]) -> keras.Model:
    """One model that holds all, whose logits are the mean of theirs."""
    last = predictions_of(models[0].model)
    image = keras.Input(models[0].model.input_shape[1:], name="image")
    logits = []
    for number, model in enumerate(models):
        if (inner := logits_of(model.model)) is None:
            raise UserError("a model that does not end in logits has none to average")
        logits.append(keras.Model(model.model.input, inner, name=f"member_{number}")(image))
    outputs = ScenePredictions(
        labels=last.labels, task=last.task, experiment=last.experiment, metadata=last.metadata, name="predictions"
    )(keras.layers.Average(name="mean_logits")(logits))
    return keras.Model(image, outputs, name="rsml_ensemble")


def _fresh(model: keras.Model) -> keras.Model:
    """Without thresholds and calibration, which were fitted to one of the runs."""
    last = predictions_of(model)
    last.thresholds = last.calibration = last.promise = None
    return model
