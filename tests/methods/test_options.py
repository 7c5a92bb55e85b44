"""Every option of every method and objective reaches the layer, the loss or the schedule that it is about."""

import json
from dataclasses import replace
from typing import Literal, get_args, get_origin

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from rsml.config import Data, Experiment
from rsml.layers import SIGNA
from rsml.methods import METHODS
from rsml.methods.objectives import Asymmetric, CrossEntropy, Focal, ImprovedCrossEntropy
from rsml.training.parts import build
from tests.methods.steps import CONTEXT, LABELS

# What no rule finds: another valid value, and options that others need to matter.
OTHERS = {
    ("signa", "after"): ("stage3",),
    ("signa", "word_vectors"): "one-hot",
    ("signa", "gnn_options"): {"self_loops": True},
    ("signa", "threshold"): 0.7,
    ("se-net", "after"): ("stage1",),
    ("ml-gcn", "word_vectors"): "one-hot",
    ("ml-gcn", "threshold"): 0.7,
    ("ml-gcn", "neighbor_share"): 0.4,
    ("ice", "pool"): 1,
    ("ice", "widths"): (16, 8),
    ("ice", "dropouts"): (0.1, 0.3, 0.2),
    ("grn", "momentum_steps"): {0.5: 0.95},
    ("grn", "momentum"): 0.25,
    ("geokr", "update_steps"): (2, 4),
}
NEEDS = {
    ("r4c", "head_width"): {"head": "vgg", "head_width": 8},
    ("published-code", "width"): {"width": 8},
}
SMALL = {"ice": {"pool": 2}, "r4c": {"head_width": 8}, "published-code": {"width": 8}, "ml-gcn": {"hidden": 8}}
CASES = [(kind, field) for kind, method in METHODS.items() for field in method.model_fields if field != "kind"]


def another(method, field):
    """Another valid value of an option."""
    if (method.kind, field) in OTHERS:
        return OTHERS[method.kind, field]
    value, annotation = getattr(method, field), type(method).model_fields[field].annotation
    if get_origin(annotation) is Literal:
        return next(choice for choice in get_args(annotation) if choice != value)
    if isinstance(value, bool):
        return not value
    candidates = [value + 1, value / 2, value + 0.25] if isinstance(value, (int, float)) else [0.5]
    for candidate in candidates:
        try:
            type(method).model_validate({**method.model_dump(), field: candidate})
            return candidate
        except ValidationError:
            continue
    raise AssertionError(f"no other value of {method.kind}.{field} is known; add one to OTHERS")


def description(value):
    """A Keras object, or anything built of such, as plain values."""
    if isinstance(value, keras.Model):
        return [description(layer) for layer in value.layers]
    if isinstance(value, (keras.layers.Layer, keras.losses.Loss)):
        own = {key: item for key, item in vars(value).items() if isinstance(item, (int, float, str))}
        weights = [(w.path.split("/")[-1], w.shape, w.trainable) for w in getattr(value, "weights", [])]
        config = {} if type(value).get_config is keras.layers.Layer.get_config else value.get_config()
        return [type(value).__name__, config, own, weights]
    if isinstance(value, (list, tuple)):
        return [description(item) for item in value]
    return value if isinstance(value, (int, float, str, type(None))) else None


def built(method):
    """What a method makes of a small network, and how its terms go through a training."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    context = replace(CONTEXT, task=method.tasks[0])
    if context.task == "proportions":
        context = replace(context, training_labels=np.full(LABELS.shape, 1 / 3, "float32"))
    backbone = "VGG16" if method.kind == "published-code" else "small"
    experiment = Experiment(name="x", data=Data(image_size=64), model={"backbone": backbone}, methods=(method,))
    network = build(experiment, context).network
    terms = method.terms(context)
    for term in terms:
        term.attach(network)
    schedules = []
    for term in terms:
        for epoch in range(context.epochs):
            term.begin_epoch(epoch)
            schedules.append(getattr(term.state, "momentum", None))
        moves = getattr(term.state, "moves_after", None)
        schedules.append([int(moves(np.int64(16 * step))) for step in (1, 2, 3, 4, 5, 600)] if moves else None)
    described = [{**{k: description(v) for k, v in vars(term).items()}, "name": term.name} for term in terms]
    return json.dumps([description(network), described, schedules, sorted(method.rates(network))], default=str)


def base(kind, **options):
    return METHODS[kind].model_validate({**SMALL.get(kind, {}), **options})


@pytest.fixture(scope="module")
def defaults():
    return {}


@pytest.mark.parametrize(("kind", "field"), CASES, ids=[f"{kind}.{field}" for kind, field in CASES])
def test_it_reaches_what_it_is_about(kind, field, defaults):
    needs = {key: value for key, value in NEEDS.get((kind, field), {}).items() if key != field}
    first = base(kind, **needs)
    second = first.model_validate({**first.model_dump(), "kind": kind, field: another(first, field)})
    if str(first) not in defaults:
        defaults[str(first)] = built(first)
    assert built(second) != defaults[str(first)]


def test_signas_options_have_the_names_and_defaults_of_its_layer():
    """The rule that hands options over goes by name; a misspelt one would be left behind."""
    left = set(METHODS["signa"].model_fields) - set(METHODS["signa"]().arguments_for(SIGNA))
    assert left == {"kind", "after", "threshold", "word_vectors", "published_code"}


@pytest.mark.parametrize("objective", [CrossEntropy, Asymmetric, Focal, ImprovedCrossEntropy])
def test_an_objectives_options_change_its_value(objective):
    task = getattr(objective, "task", "multi-label")
    labels = np.eye(3, dtype="float32")
    logits = np.random.default_rng(0).normal(0, 2, (3, 3)).astype("float32")
    for field in set(objective.model_fields) - {"kind"}:
        value = getattr(objective(), field)
        other = objective(**{field: value + 0.3})
        assert float(other.function(task)(labels, logits)) != float(objective().function(task)(labels, logits)), field
