"""What a training is put together from: the network an experiment describes, its objective, its trainer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import keras
import numpy as np

from rsml.config import Experiment
from rsml.data.samples import Samples
from rsml.methods import LabelContext
from rsml.methods.objectives import CrossEntropy, Objective, label_weights
from rsml.methods.plain import Plain
from rsml.models import Classifier, build_classifier, load_backbone
from rsml.tasks import task
from rsml.training.devices import ALONE, Spread
from rsml.training.optimizers import ScaledLoss, make_optimizer
from rsml.training.trainer import Trainer
from rsml.utils.errors import UserError
from rsml.weights.network import continued
from rsml.weights.published import IMAGENET


def build(experiment: Experiment, context: LabelContext) -> Classifier:
    """Builds the network that an experiment describes: backbone, what the methods put into it, head.

    Args:
        experiment: Its model and methods are used.
        context: What the methods may know of the labels.
    """
    model, data = experiment.model, experiment.data
    methods = experiment.applied_methods() or (Plain(),)
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
    context = replace(context, backbone=backbone.name)
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
    if model.weights is None or model.weights in IMAGENET:
        return classifier
    return continued(classifier, model.weights, context.names, model.head)


def choose_objective(experiment: Experiment, task_name: str) -> Objective:
    """The experiment's objective, else the one that its methods bring, else cross entropy."""
    if experiment.objective:
        return experiment.objective
    brought = {method.kind: own for method in experiment.methods if (own := method.objective(task_name))}
    if len({own.kind for own in brought.values()}) > 1:
        each = ", ".join(f"{kind} wants {own.kind}" for kind, own in brought.items())
        raise UserError(f"methods that learn by different objectives ({each}); name one with --set objective=...")
    return next(iter(brought.values()), CrossEntropy())


def make_trainer(
    experiment: Experiment,
    classifier: Classifier,
    served: keras.Model,
    context: LabelContext,
    steps: int,
    objective: Objective,
    spread: Spread = ALONE,
) -> Trainer:
    """The model that `fit` drives, with its loss and its optimizer of `steps` an epoch."""
    options = experiment.training
    weights = label_weights(context.training_labels, context.task) if options.class_weights else None
    methods = experiment.applied_methods()
    with spread.scope():
        terms = [term for method in methods for term in method.terms(context)]
    trainer = Trainer(classifier.network, objective.function(context.task, weights), terms, served, spread)
    rate = options.backbone_rate
    if rate is None:
        rate = next((method.backbone_rate for method in methods if method.backbone_rate is not None), None)
    if rate is None:
        rate = 0.1 if classifier.backbone.pretrained else 1.0
    own_rates = {path: own for method in methods for path, own in method.rates(classifier.network).items()}
    with spread.scope():
        optimizer = make_optimizer(options, trainer.trainable_variables, depths(classifier), rate, steps, own_rates)
        if options.precision == "mixed_float16":
            optimizer = ScaledLoss(optimizer)
            optimizer.build(trainer.trainable_variables)
    trainer.optimizer = optimizer
    return trainer


def depths(classifier: Classifier, groups: int = 12) -> dict[str, int]:
    """How deep below the head each of the backbone's weights lies: its layers in order, in so many even groups."""
    layers = classifier.backbone_layers()
    return {
        weight.path: groups - position * groups // len(layers)
        for position, layer in enumerate(layers)
        for weight in layer.weights
    }


def set_frozen(classifier: Classifier, frozen: bool, norms: bool) -> None:
    """Keeps the backbone as it is, or lets it move; `norms` keeps its normalisation statistics anyway."""
    for layer in classifier.backbone_layers():
        layer.trainable = not (frozen or (norms and isinstance(layer, keras.layers.BatchNormalization)))


def with_label_noise(samples: Samples, rate: float, seed: int) -> Samples:
    """Flips a fraction of labels: each entry of a multi-label row on its own, or the class for another one."""
    if not rate:
        return samples
    row = task(samples.task)
    if row.shares:
        raise UserError(
            "training.label_noise exchanges labels, and this data has shares; the built-in scenes' maps are "
            "disturbed with data.scenes.map_confusion, map_shift and map_pixel"
        )
    random = np.random.default_rng([seed, 0x6E6F697365])
    labels = samples.labels.copy()
    if row.one_class:
        wrong = np.flatnonzero(random.random(len(labels)) < rate)
        classes = (samples.classes[wrong] + random.integers(1, labels.shape[1], len(wrong))) % labels.shape[1]
        labels[wrong] = np.eye(labels.shape[1], dtype=np.uint8)[classes]
    else:
        labels ^= random.random(labels.shape) < rate
    return replace(samples, labels=labels)
