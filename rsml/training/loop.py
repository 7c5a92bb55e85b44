"""The story of a run, from data to checkpoint."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from rsml.config import Experiment
from rsml.data import pipeline
from rsml.data.samples import Samples
from rsml.data.source import load_samples, training_part
from rsml.evaluation import HEADLINE, measure
from rsml.methods import LabelContext, Plain
from rsml.methods.objectives import CrossEntropy, Objective, label_weights
from rsml.models import Classifier, build_classifier, load_backbone
from rsml.run import ROOT, Run
from rsml.training.epoch_end import EpochEnd, TrainingState
from rsml.training.finish import evaluate_run
from rsml.training.optimizers import make_optimizer
from rsml.training.trainer import Trainer
from rsml.utils.errors import UserError
from rsml.weights.network import continued

logger = logging.getLogger(__name__)

MONITORS = {"multi-label": "example_f1", "single-label": "accuracy", "proportions": "dominant_accuracy"}


def train(experiment: Experiment, *, root: str | Path = ROOT, fresh: bool = False) -> Run:
    """Trains an experiment, or goes on where it stopped, and evaluates its best epoch.

    Args:
        experiment: What to do.
        root: Folder of all runs.
        fresh: Start over instead of going on.

    Returns:
        The run, with best.keras, metrics.json and predictions.csv in its folder.
    """
    run = Run.of(experiment, Path(root), fresh)
    if run.metrics.is_file() and not fresh:
        logger.info("%s is complete; nothing to train (--fresh starts it over)", run.folder)
        return run
    samples = load_samples(experiment.data)
    if run.state.is_file() and not fresh and run.read_samples().fingerprint() != samples.fingerprint():
        raise UserError(
            f"{experiment.data.source}: its images, labels or parts are no longer those that {run.folder} began with; "
            "restore them, give the run another --name, or start it over with --fresh"
        )
    with _precision(experiment.training.precision):
        keras.utils.set_random_seed(experiment.seed)
        _fit(experiment, samples, partial(Run.start, experiment, Path(root), fresh))
    evaluate_run(run, samples)
    return run


def _fit(experiment: Experiment, samples: Samples, start_run: Callable[[], Run]) -> None:
    """Builds everything first, and starts the run's folder only then: an experiment that cannot be leaves none."""
    options, data = experiment.training, experiment.data
    train_part = training_part(samples, data.train_fraction, experiment.seed, data.keep_steps)
    valid_part = samples.part("valid")
    train_part = with_label_noise(train_part, options.label_noise, experiment.seed)
    steps = pipeline.steps(train_part, options.batch_size)

    objective = choose_objective(experiment, samples.task)
    context = LabelContext(samples.label_names, samples.task, train_part.labels, options.epochs, experiment.seed)
    classifier = build(experiment, context)
    served = classifier.served(labels=list(samples.label_names), task=samples.task, experiment=experiment.dump())
    trainer = _trainer(experiment, classifier, context, steps, objective)
    monitor = _monitor(experiment, valid_part, [name for term in trainer.terms for name in term.measures])
    run = start_run()
    run.write_samples(samples)
    state = TrainingState(trainer, run)
    if state.load():
        logger.info("going on from epoch %d of %d", state.epoch, options.epochs)
    _announce(experiment, samples, train_part, classifier, objective)

    watched = {name: classifier.network.output[name] for term in trainer.terms for name in term.watches}
    watching = keras.Model(served.input, {**watched, "scores": served.output})

    def validate() -> dict[str, float]:
        if not len(valid_part):
            return {}
        outputs = watching.predict(valid_images, verbose=0)
        measured = measure(valid_part.labels, outputs["scores"], samples.task)
        for term in trainer.terms:
            measured |= term.measure(valid_part.labels, outputs)
        return measured

    read = {**data.reading(), "cache": data.cache}
    valid_images = (
        pipeline.evaluation_dataset(valid_part, batch_size=experiment.evaluation.batch_size, **read)
        if len(valid_part)
        else None
    )
    epoch_end = EpochEnd(state, options, monitor, validate, served, HEADLINE[samples.task])
    epoch_begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: trainer.begin_epoch(epoch))
    board = keras.callbacks.TensorBoard(run.logs, write_graph=False)
    try:
        with pipeline.naming_bad_images(samples, data.bands, data.value_range):
            for until, freeze in _phases(options.freeze, options.epochs):
                if state.stopped or state.epoch >= until:
                    continue
                _set_frozen(classifier, freeze, options.freeze_batch_norm)
                trainer.compile(trainer.optimizer, loss=None, jit_compile=options.xla, auto_scale_loss=False)
                images = pipeline.training_dataset(
                    train_part,
                    batch_size=options.batch_size,
                    epochs=until,
                    start_epoch=state.epoch,
                    seed=experiment.seed,
                    augment=experiment.augment,
                    **read,
                )
                trainer.fit(
                    images,
                    initial_epoch=state.epoch,
                    epochs=until,
                    steps_per_epoch=steps,
                    shuffle=False,
                    callbacks=[epoch_begin, epoch_end, board],
                    verbose="auto" if sys.stdout.isatty() else 2,
                )
    except KeyboardInterrupt:
        logger.info(
            "\ninterrupted; %s; run the same command again to go on",
            f"{state.epoch} epochs are kept in {run.folder}" if state.epoch else "no epoch was finished yet",
        )
        raise


def build(experiment: Experiment, context: LabelContext) -> Classifier:
    """Builds the network that an experiment describes: backbone, what the methods put into it, head.

    Args:
        experiment: Its model and methods are used.
        context: What the methods may know of the labels.
    """
    model, data = experiment.model, experiment.data
    methods = experiment.methods or (Plain(),)
    for method in methods:
        if context.task not in method.tasks:
            raise UserError(
                f"method '{method.kind}' is for {' and '.join(method.tasks)} data, found {context.task} data; "
                "choose another with --set methods=..., or set data.task"
            )
    backbone = load_backbone(
        model.backbone,
        image_size=data.image_size,
        weights=model.weights,
        bands=len(data.bands) if data.bands else 3,
        preprocess=model.preprocess,
        trust=model.trust,
    )
    own_head = next((method for method in methods if method.replaces_logits), None)
    classifier = build_classifier(
        backbone,
        len(context.names),
        pooling=next((pooling for method in methods if (pooling := method.pooling())), model.pooling),
        dropout=model.dropout,
        insertions=[
            *(partial(method.modify_backbone, context=context) for method in methods),
            *(partial(method.extend_backbone, context=context) for method in methods),
        ],
        logits=partial(own_head.logits, context=context) if own_head else None,
        outputs=[partial(method.outputs, context=context) for method in methods],
    )
    if model.weights in (None, "imagenet"):
        return classifier
    return continued(classifier, model.weights, context.names, model.head)


def choose_objective(experiment: Experiment, task: str) -> Objective:
    """The experiment's objective, else the one that its methods bring, else cross entropy."""
    if experiment.objective:
        return experiment.objective
    brought = {method.kind: own for method in experiment.methods if (own := method.objective(task))}
    if len({own.kind for own in brought.values()}) > 1:
        each = ", ".join(f"{kind} wants {own.kind}" for kind, own in brought.items())
        raise UserError(f"methods that learn by different objectives ({each}); name one with --set objective=...")
    return next(iter(brought.values()), CrossEntropy())


def with_label_noise(samples: Samples, rate: float, seed: int) -> Samples:
    """Flips a fraction of labels: each entry of a multi-label row on its own, or the class for another one."""
    if not rate:
        return samples
    if samples.task == "proportions":
        raise UserError(
            "training.label_noise exchanges labels, and this data has shares; the built-in scenes' maps are "
            "disturbed with data.scenes.map_confusion, map_shift and map_pixel"
        )
    random = np.random.default_rng([seed, 0x6E6F697365])
    labels = samples.labels.copy()
    if samples.task == "multi-label":
        labels ^= random.random(labels.shape) < rate
    else:
        wrong = np.flatnonzero(random.random(len(labels)) < rate)
        classes = (samples.classes[wrong] + random.integers(1, labels.shape[1], len(wrong))) % labels.shape[1]
        labels[wrong] = np.eye(labels.shape[1], dtype=np.uint8)[classes]
    return replace(samples, labels=labels)


def _trainer(
    experiment: Experiment, classifier: Classifier, context: LabelContext, steps: int, objective: Objective
) -> Trainer:
    options = experiment.training
    weights = label_weights(context.training_labels, context.task) if options.class_weights else None
    terms = [term for method in experiment.methods for term in method.terms(context)]
    trainer = Trainer(classifier.network, objective.function(context.task, weights), terms)
    rate = options.backbone_rate
    if rate is None:
        rate = 0.1 if classifier.backbone.pretrained else 1.0
    slow = {weight.path for weight in classifier.backbone.model.weights}
    optimizer = make_optimizer(options, trainer.trainable_variables, slow, rate, steps)
    if options.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(trainer.trainable_variables)
    trainer.optimizer = optimizer
    return trainer


def _phases(freeze: bool | int, epochs: int) -> list[tuple[int, bool]]:
    """`(last epoch, backbone frozen)` of each phase of the training."""
    frozen = (epochs if freeze else 0) if isinstance(freeze, bool) else min(freeze, epochs)
    return [(until, kept) for until, kept in ((frozen, True), (epochs, False)) if until > (0 if kept else frozen)]


def _set_frozen(classifier: Classifier, frozen: bool, norms: bool) -> None:
    for layer in classifier.backbone_layers():
        layer.trainable = not (frozen or (norms and isinstance(layer, keras.layers.BatchNormalization)))


def _monitor(experiment: Experiment, valid_part: Samples, further: Sequence[str]) -> str:
    task = valid_part.task
    monitor = experiment.training.monitor or MONITORS[task]
    if not len(valid_part):
        logger.info("no validation part: the last epoch is taken for the best")
        return monitor
    known = measure(valid_part.labels, np.full(valid_part.labels.shape, 1 / valid_part.labels.shape[1]), task)
    known = [*known, *further]
    if monitor not in known:
        raise UserError(f"training.monitor '{monitor}' is not a {task} metric; known: {', '.join(sorted(known))}")
    return monitor


def _announce(
    experiment: Experiment, samples: Samples, train_part: Samples, classifier: Classifier, objective: Objective
) -> None:
    methods = " + ".join(method.kind for method in experiment.methods) or "plain"
    counts = {"train": len(train_part)} | {part: np.count_nonzero(samples.splits == part) for part in ("valid", "test")}
    millions = classifier.network.count_params() / 1e6
    logger.info("%s: %s, %.2f M parameters, objective %s", experiment.name, methods, millions, objective.kind)
    logger.info(classifier.backbone.text())
    if classifier.backbone.report:
        logger.info(classifier.backbone.report.text())
    parts = ", ".join(f"{count} {part}" for part, count in counts.items())
    logger.info("%s, %d labels: %s", samples.task, len(samples.label_names), parts)


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
