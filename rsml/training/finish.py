"""What a run leaves behind once its weights are found: thresholds, metrics, predictions, figures, closing words."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np

from rsml.config import Experiment
from rsml.data.samples import Samples
from rsml.evaluation import full_report, headline_table, summary, summary_intervals
from rsml.figures.run import draw_figures
from rsml.graph import cooccurrence, edge_counts, threshold_graph
from rsml.layers.scene_predictions import predictions_of
from rsml.methods.base import graph_threshold
from rsml.prediction.labelling import PredictionWriter
from rsml.prediction.scene_model import SceneModel
from rsml.report.page import open_page
from rsml.run import Run
from rsml.tasks import task
from rsml.training.certainty import certainty_lines, settle
from rsml.utils.files import replacing, write_text

logger = logging.getLogger(__name__)


def evaluate_run(run: Run, experiment: Experiment, samples: Samples, best_epoch: int | None = None) -> None:
    """Measures a run's best model on its validation and test parts and writes what came out into its folder.

    Thresholds are tuned on the validation part, if the experiment asks for it, and then stored in the model.

    Args:
        run: A run with a best model.
        experiment: What it was made with.
        samples: All its images, divided.
        best_epoch: The epoch that was chosen.
    """
    options, row = experiment.evaluation, task(samples.task)
    model = SceneModel.load(run.files.best, trust=experiment.model.trust)
    parts = {name: part for name in ("test", "valid") if len(part := samples.part(name))}
    # A run that is measured again was calibrated before.
    predictions_of(model.model).calibration = None
    raw = {name: model.scores(part, options.batch_size) for name, part in parts.items()}
    threshold = experiment.decision_threshold()
    decided = np.full(len(model.labels), threshold) if threshold else None
    certainty = settle(options, parts.get("valid"), raw.get("valid"), samples.task, decided)
    if certainty.keep(model.model):
        run.write_model(model.model, run.files.best)
        model = SceneModel.of(model.model)
    scores = {name: certainty.scores(found) for name, found in raw.items()}
    if experiment.training.h5:
        run.write_model(model.model, run.files.best_h5)

    of_graph = graph_threshold(experiment.methods)
    edges = _edges(samples, of_graph)
    counts = parts["valid"].present.sum(axis=0) if "valid" in parts else None
    summaries, intervals = {}, {}
    for name, part in parts.items():
        measured = part.labels, scores[name], model.thresholds
        if options.resamples:
            intervals[name] = summary_intervals(samples.task, *measured, resamples=options.resamples)
        summaries[name] = summary(
            samples.task,
            model.labels,
            *measured,
            edge_counts=edges,
            valid_counts=counts,
            intervals=intervals.get(name),
        )
        summaries[name] |= certainty.measured(part, raw[name], options.resamples)

    shown = next(iter(parts), "")
    if not shown:
        logger.info("neither a test nor a validation part: nothing to measure")
    else:
        with replacing(run.files.predictions) as beside, PredictionWriter(beside, model) as writer:
            writer.write_all(parts[shown].paths, scores[shown])
        tables = [
            "\n".join([f"{name} part: {full_report(found)}", *certainty_lines(found, name), ""])
            for name, found in summaries.items()
        ]
        write_text(run.files.report, "\n".join([f"run {run.name}\n", *tables]))
    if options.figures:
        draw_figures(
            run.files.figures,
            samples=samples,
            history=run.history,
            best_epoch=best_epoch,
            graph_threshold=of_graph,
            choices=experiment.data.choices(),
            part=parts.get(shown),
            scores=scores.get(shown),
            thresholds=model.thresholds,
            summary=summaries.get(shown),
            interval=intervals.get(shown, {}).get(row.monitor) if options.bootstrap_chart else None,
        )
    # Written last: a run with metrics is complete. Its page is made of what was written.
    run.write_evaluation(summaries)
    if shown and options.page:
        open_page(run, model)


def report(run: Run) -> str:
    """What a person wants to see at the end: the test part's table, where the run is, how to predict with it."""
    measured = run.evaluation
    shown = next((part for part in ("test", "valid") if part in measured), None)
    lines = []
    if shown is not None:
        lines = [f"{shown} part:", headline_table(measured[shown]), *certainty_lines(measured[shown], shown), ""]
    image = os.path.relpath(run.samples.part(shown or "train").files[0])
    beside_python = Path(sys.executable).with_name("rsml")
    own = os.path.relpath(beside_python) if beside_python.is_file() and not shutil.which("rsml") else "rsml"
    command = [own, "predict", str(run.folder), image]
    return "\n".join([*lines, f"run folder:   {run.folder}", f"predict with: {shlex.join(command)}"])


def _edges(samples: Samples, threshold: float) -> np.ndarray | None:
    """Each label's edges in the label graph of the training part; None where there is no such graph."""
    if not task(samples.task).thresholds or len(samples.label_names) < 2:
        return None
    return edge_counts(threshold_graph(cooccurrence(samples.part("train").labels), threshold)).per_label
