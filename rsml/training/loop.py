"""The story of a run, from data to checkpoint."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np

from rsml.config import Experiment, Training
from rsml.data import pipeline
from rsml.data.samples import Samples
from rsml.data.source import load_samples, training_part
from rsml.methods import LabelContext
from rsml.report.facts import keep_made_with
from rsml.run import ROOT, Run
from rsml.tasks import task
from rsml.training.callbacks import Board, ShortLine, load_callbacks
from rsml.training.certainty import check_promise
from rsml.training.devices import Spread, WholeBatch, choose
from rsml.training.epoch_end import EpochEnd, TrainingState
from rsml.training.finish import evaluate_run
from rsml.training.hosts import check_alike
from rsml.training.parts import build, choose_objective, make_trainer, set_frozen, with_label_noise
from rsml.training.precision import precision
from rsml.training.save_within import SaveWithin
from rsml.training.validation import Validation
from rsml.utils.errors import UserError
from rsml.utils.guard.memory import check_fits_memory
from rsml.utils.locks import lock

logger = logging.getLogger(__name__)


def train(
    experiment: Experiment,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    root: str | Path = ROOT,
    fresh: bool = False,
    hosts: Spread | None = None,
) -> Run:
    """Trains an experiment, or goes on where it stopped, and evaluates its best epoch.

    Args:
        experiment: What to do.
        callbacks: Keras callbacks that follow the training, beside those that the experiment names.
        root: Folder of all runs.
        fresh: Start over instead of going on.
        hosts: The devices of several hosts, each of which calls this; see `rsml.training.hosts`.

    Returns:
        The run, with best.keras, metrics.json and predictions.csv in its folder.
    """
    # Is there anything to do? A folder of another experiment, or data that changed, is refused before anything loads.
    run = Run.of(experiment, Path(root), fresh)
    begun = run.files.state.is_file() and not fresh
    if run.files.metrics.is_file() and not fresh and not (begun and run.grows(experiment)):
        if fault := run.fault():
            raise UserError(f"{run.files.best}: {fault}, though the run is complete; copy it back, or use --fresh")
        logger.info("%s is complete; nothing to train (--fresh starts it over)", run.folder)
        return run
    started = time.time()
    link = hosts.link if hosts else None
    with link.chief_first() if link else nullcontext():
        samples = load_samples(experiment.data)
    if link:
        check_alike(link, experiment, samples, run)
    check_promise(experiment, samples)
    if begun and run.samples.fingerprint() != samples.fingerprint():
        raise UserError(
            f"{experiment.data.source}: its images, labels or parts are no longer those that {run.folder} began with; "
            "restore them, give the run another --name, or start it over with --fresh"
        )

    # Train, then measure the best epoch: the last weights are rarely the best.
    chief = link is None or link.chief
    with lock(run.folder, "training") if chief else nullcontext():
        with precision(experiment.training.precision):
            keras.utils.set_random_seed(experiment.seed)
            run, best_epoch = _fit(experiment, samples, callbacks, Path(root), fresh, hosts)
        if chief:
            keep_made_with(run, started)
            evaluate_run(run, experiment, samples, best_epoch)
    return run


def _fit(
    experiment: Experiment,
    samples: Samples,
    callbacks: Sequence[keras.callbacks.Callback],
    root: Path,
    fresh: bool,
    hosts: Spread | None,
) -> tuple[Run, int | None]:
    """Builds everything, takes up what is kept, and trains; returns the run and its best epoch."""
    options, data = experiment.training, experiment.data

    # ---- Data: the part that teaches, the part that chooses.
    train_part = training_part(samples, data.train_fraction, experiment.seed, data.keep_steps)
    train_part = with_label_noise(train_part, options.label_noise, experiment.seed)
    steps = pipeline.steps(train_part, options.batch_size)

    # ---- Devices. Network: backbone, what the methods put into it, head; over the same layers what is served.
    spread = choose(options, len(train_part), hosts)
    context = LabelContext(samples.label_names, samples.task, train_part.labels, options.epochs, experiment.seed)
    with spread.scope():
        classifier = build(experiment, context)
    check_fits_memory(
        classifier.network,
        -(-min(options.batch_size, len(train_part)) // spread.replicas),
        training=True,
        title=experiment.name,
        advice="make data.image_size or training.batch_size smaller",
    )
    about = {"labels": list(samples.label_names), "task": samples.task, "experiment": experiment.dump()}
    threshold = experiment.decision_threshold()
    served = classifier.served(**about, thresholds=[threshold] * len(samples.label_names) if threshold else None)

    # ---- Loss, optimizer, and what is measured after each epoch.
    objective = choose_objective(experiment, samples.task)
    trainer = make_trainer(experiment, classifier, served, context, steps, objective, spread)
    validation = Validation(experiment, samples.part("valid"), trainer, objective, threshold or 0.5)
    guests = [*load_callbacks(options.callbacks), *callbacks]

    # ---- The run's folder begins only here: an experiment that cannot be trained leaves none.
    with spread.link.chief_first() if spread.link else nullcontext():
        run = Run.start(experiment, root, fresh) if spread.chief else Run.of(experiment, root)
    run.writes = spread.chief
    run.write_samples(samples)
    state = TrainingState(trainer, run)
    if state.load():
        logger.info("going on after %s of %d", state.reached(), options.epochs)
        if state.stopped:
            logger.info("it had stopped for want of patience (training.patience), and stays so")
    methods = " + ".join(method.kind for method in experiment.applied_methods()) or "plain"
    millions = classifier.network.count_params() / 1e6
    logger.info("%s: %s, %.2f M parameters, objective %s", experiment.name, methods, millions, objective.kind)
    logger.info(classifier.backbone.text())
    if classifier.backbone.report:
        logger.info(classifier.backbone.report.text())
    counts = {"train": len(train_part)} | {part: np.count_nonzero(samples.splits == part) for part in ("valid", "test")}
    parts = ", ".join(f"{count} {part}" for part, count in counts.items())
    logger.info("%s, %d labels: %s", samples.task, len(samples.label_names), parts)

    # ---- Epochs, phase by phase: with a frozen backbone or not, small images first.
    followers = [
        *([WholeBatch(trainer._flatten_layers())] if spread.strategy else []),
        EpochEnd(state, options, validation),
        *([SaveWithin(state, options.save_every, steps)] if options.save_every else []),
        *([Board(run.files.logs, validation, pictures=experiment.evaluation.figures)] if spread.chief else []),
        *guests,
        ShortLine((*task(samples.task).headline, validation.monitor)),
    ]
    try:
        with pipeline.naming_bad_images(samples, data.bands, data.value_range):
            for until, frozen, size in state.legs(phases(options, data.image_size)):
                if state.stopped or state.epoch >= until:
                    continue
                set_frozen(classifier, frozen, options.freeze_batch_norm)
                trainer.at_size(size)
                trainer.compile(trainer.optimizer, loss=None, jit_compile=options.xla, auto_scale_loss=False)
                images = pipeline.training_dataset(
                    train_part,
                    batch_size=options.batch_size,
                    epochs=until,
                    start_epoch=state.epoch,
                    start_step=state.step,
                    seed=experiment.seed,
                    augment=experiment.augment,
                    cache=data.cache,
                    **{**data.reading(), "image_size": size},
                    share=spread.share,
                )
                trainer.fit(
                    spread.batches(images),
                    initial_epoch=state.epoch,
                    epochs=until,
                    steps_per_epoch=steps - state.step,
                    shuffle=False,
                    callbacks=followers,
                    verbose=("auto" if sys.stdout.isatty() else 2) if spread.chief else 0,
                )
                if trainer.stop_training and not state.stopped:
                    # Another package's callback has decided so; a resumed run must not go on behind its back.
                    state.stopped = True
                    state.save()
    except KeyboardInterrupt:
        logger.info(
            "\ninterrupted; %s; run the same command again to go on",
            f"{state.reached()} are kept in {run.folder}" if state.epoch or state.step else "no epoch was finished yet",
        )
        raise
    return run, state.best_epoch


def phases(options: Training, image_size: int) -> list[tuple[int, bool, int]]:
    """`(last epoch, backbone frozen, image size)` of each phase of the training."""
    epochs, freeze = options.epochs, options.freeze
    thawed = (epochs if freeze else 0) if isinstance(freeze, bool) else min(freeze, epochs)
    starts = {round(fraction * epochs): size for fraction, size in options.sizes.items()}
    ends = sorted({thawed, epochs, *starts} - {0})
    found = []
    for begin, until in zip([0, *ends], ends, strict=False):
        reached = [start for start in starts if start <= begin]
        found.append((until, until <= thawed, starts[max(reached)] if reached else image_size))
    return found
