"""What a run leaves behind once its weights are found: thresholds, metrics, predictions, figures, closing words."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys

import numpy as np

from rsml.config import Experiment
from rsml.data.samples import Samples
from rsml.evaluation import full_report, headline_table, summary, tune_thresholds
from rsml.figures.run import draw_figures
from rsml.graph import cooccurrence, edge_counts, threshold_graph
from rsml.layers.scene_predictions import predictions_layer
from rsml.prediction.labelling import PredictionWriter
from rsml.prediction.scene_model import SceneModel
from rsml.run import Run
from rsml.utils.files import replacing, write_json, write_text

logger = logging.getLogger(__name__)


def evaluate_run(run: Run, samples: Samples) -> None:
    """Measures a run's best model on its validation and test parts and writes what came out into its folder.

    Thresholds are tuned on the validation part, if the experiment asks for it, and then stored in the model.

    Args:
        run: A run with a best model.
        samples: All its images, divided.
    """
    experiment = run.experiment()
    options = experiment.evaluation
    scene_model = SceneModel.load(run.best, trust=experiment.model.trust)
    parts = {name: part for name in ("valid", "test") if len(part := samples.part(name))}
    scores = {name: scene_model.scores(part, options.batch_size) for name, part in parts.items()}
    if options.tune_thresholds and scene_model.task == "multi-label" and "valid" in parts:
        thresholds = tune_thresholds(parts["valid"].labels, scores["valid"], options.threshold_objective)
        predictions_layer(scene_model.model).thresholds = thresholds
        run.write_model(scene_model.model, run.best)
        scene_model = SceneModel.of(scene_model.model)
    if experiment.training.h5:
        run.write_model(scene_model.model, run.best_h5)

    graph_threshold = _graph_threshold(experiment)
    summaries = {
        name: summary(
            scene_model.task,
            scene_model.labels,
            part.labels,
            scores[name],
            scene_model.thresholds,
            edge_counts=_edges(samples, graph_threshold),
            resamples=options.resamples,
        )
        for name, part in parts.items()
    }
    measured = "test" if "test" in parts else next(iter(parts), None)
    if measured is None:
        logger.info("neither a test nor a validation part: nothing to measure")
    else:
        with replacing(run.predictions) as beside, PredictionWriter(beside, scene_model) as writer:
            writer.write_all(parts[measured].paths, scores[measured])
        told = [f"{name} part: {full_report(summaries[name])}" for name in ("test", "valid") if name in summaries]
        write_text(run.report, "\n".join([f"run {run.name}\n", *told]))
        if options.figures:
            draw_figures(
                run.figures,
                samples=samples,
                part=parts[measured],
                scores=scores[measured],
                thresholds=scene_model.thresholds,
                summary=summaries[measured],
                history=run.read_history(),
                graph_threshold=graph_threshold,
                resamples=options.resamples,
            )
    # Written last: a run with metrics is complete.
    write_json(run.metrics, {"run": run.name, **summaries})


def report(run: Run) -> str:
    """What a person wants to see at the end: the test part's table, where the run is, how to predict with it."""
    measured = json.loads(run.metrics.read_text(encoding="utf-8"))
    shown = next((part for part in ("test", "valid") if part in measured), None)
    lines = [] if shown is None else [f"{shown} part:", headline_table(measured[shown])]
    samples = run.read_samples()
    image = os.path.relpath(samples.files[np.flatnonzero(samples.splits == (shown or "train"))[0]])
    python = os.path.relpath(sys.executable)
    command = [python if not python.startswith("..") else "python", "predict.py", str(run.folder), image]
    return "\n".join([*lines, f"run folder:   {run.folder}", f"predict with: {shlex.join(command)}"])


def _graph_threshold(experiment: Experiment) -> float:
    """`Q` of the experiment's first method that has a label graph; 0.4, the SIGNA paper's, where none has."""
    return next((method.threshold for method in experiment.methods if hasattr(method, "threshold")), 0.4)


def _edges(samples: Samples, threshold: float) -> np.ndarray | None:
    """Each label's edges in the label graph of the training part; None where there is no such graph."""
    if samples.task != "multi-label" or len(samples.label_names) < 2:
        return None
    return edge_counts(threshold_graph(cooccurrence(samples.part("train").labels), threshold)).per_label
