"""Each trait of SIGNA's published code, in SIGNA and in the plain backbone."""

import keras
import numpy as np
import pandas as pd
import pytest

from rsml.config import Data, Experiment, Training, override
from rsml.layers import SIGNA
from rsml.layers.scene_predictions import predictions_layer
from rsml.methods import LabelContext
from rsml.training import train
from rsml.training.parts import build, choose_objective, make_trainer
from rsml.utils.errors import UserError
from tests.methods.steps import CONTEXT, built

PUBLISHED = ("methods=signa", "methods.signa.heads=2", "methods.signa.published_code=true")


def rates(*settings, image_size=64):
    """Each variable's fraction of the rate by path, None where it is in no group of the optimizer."""
    keras.utils.set_random_seed(0)
    experiment = override(Experiment(name="x", data=Data(image_size=image_size)), settings)[0]
    classifier = build(experiment, CONTEXT)
    served = classifier.served(labels=list(CONTEXT.names), task=CONTEXT.task)
    objective = choose_objective(experiment, "multi-label")
    trainer = make_trainer(experiment, classifier, served, CONTEXT, 4, objective)
    known = dict(zip([v.path for v in trainer.trainable_variables], trainer.optimizer._rates, strict=True))
    return classifier, {weight.path: known.get(weight.path) for weight in classifier.network.weights}


def signa_layer(*settings, context=CONTEXT):
    return next(layer for layer in built(*settings, context=context)[0].network.layers if isinstance(layer, SIGNA))


def test_rates_of_signa():
    classifier, found = rates(*PUBLISHED)
    slow = {"q_weight", "q_bias", "v_weight", "v_bias"}
    for path, rate in found.items():
        layer, _, name = path.partition("/")
        if layer == "signa_stage2":
            expected = 0.1 if name in slow else None if name in ("out_kernel", "out_bias") else 1.0
        else:
            own = next(item for item in classifier.network.layers if item.name == layer)
            frozen = layer == "logits" or (isinstance(own, keras.layers.BatchNormalization) and "moving" in name)
            expected = None if frozen else 0.1
        assert rate == expected, path


def test_without_it_all_learns():
    _, found = rates("methods=signa", "methods.signa.heads=2")
    assert {rate for path, rate in found.items() if "moving" not in path} == {1.0}


@pytest.mark.parametrize("settings", [PUBLISHED, ("model.published_code=true",)])
def test_the_classifier_stays_at_pytorchs_random_start(settings):
    network = built(*settings)[0].network
    logits = network.get_layer("logits")
    kernel, bias = logits.get_weights()
    bound = kernel.shape[0] ** -0.5
    assert not logits.trainable
    for values in (kernel, bias):
        assert 0 < np.abs(values).max() <= bound
    assert np.abs(kernel).max() > 0.95 * bound and np.std(kernel) == pytest.approx(bound / 3**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("gnn", "options"),
    [
        ("gcn", {"reverse_edges": True, "edge_weights": False}),
        ("graphsage", {"reverse_edges": True, "self_loops": True}),
        ("gat", {"reverse_edges": True}),
    ],
)
def test_graph_and_slope(gnn, options):
    layer = signa_layer(*PUBLISHED, f"methods.signa.gnn={gnn}")
    assert layer.gnn_options == options and layer.negative_slope == 0


@pytest.mark.parametrize(("stage", "depth"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_depth_by_stage(stage, depth):
    assert signa_layer(*PUBLISHED, f"methods.signa.after=stage{stage}", "methods.signa.heads=1").depth == depth


def test_vgg_has_its_head_its_place_and_a_classifier_that_learns():
    settings = ("model.backbone=VGG16", "methods=signa+published-code", "methods.published-code.width=8")
    classifier, found = rates(*settings, "methods.signa.published_code=true", "methods.signa.heads=1", image_size=32)
    network = classifier.network
    assert network.get_layer("signa_block5_pool").input.shape[1:] == (1, 1, 512)
    assert network.get_layer("vgg_head_fc1").kernel.shape == (7, 7, 512, 8)
    assert network.get_layer("vgg_head_fc2").kernel.shape == (1, 1, 8, 8)
    for layer in ("vgg_head_fc1", "vgg_head_fc2", "logits", "block1_conv1"):
        assert {rate for path, rate in found.items() if path.startswith(f"{layer}/")} == {0.1}
    assert found["signa_block5_pool/out_kernel"] is None
    assert {rate for path, rate in found.items() if "head_0" in path} == {1.0}


def test_the_head_is_torchvisions_classifier():
    """The convolution over the 7 x 7 map is the dense layer on what is flattened."""
    network = built("methods=r4c", "methods.r4c.head=vgg", "methods.r4c.head_width=16")[0].network
    first, second = (network.get_layer(f"vgg_head_fc{number}") for number in (1, 2))
    pooled = np.random.default_rng(0).normal(size=(2, 7, 7, first.kernel.shape[2])).astype("float32")
    flat = np.maximum(pooled.reshape(2, -1) @ first.kernel.numpy().reshape(-1, 16) + first.bias.numpy(), 0)
    expected = np.maximum(flat @ second.kernel.numpy()[0, 0] + second.bias.numpy(), 0)
    np.testing.assert_allclose(second(first(pooled))[:, 0, 0], expected, rtol=1e-4, atol=1e-5)
    assert network.output["features"].shape == (None, 16)


def test_the_last_epoch_is_tested_at_the_logit_one_half(multilabel_csv, tmp_path):
    experiment = Experiment(
        name="x",
        data=Data(source=str(multilabel_csv), task="multi-label", image_size=32),
        model={"published_code": True},
        training=Training(epochs=3, batch_size=12, learning_rate=1e-6, schedule="constant"),
        evaluation={"figures": False, "page": False, "resamples": 0},
    )
    run = train(experiment, root=tmp_path)
    best, last = (keras.models.load_model(path) for path in (run.files.best, run.files.last))
    for first, second in zip(best.get_weights(), last.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    thresholds = predictions_layer(best).thresholds
    np.testing.assert_allclose(np.log(np.array(thresholds) / (1 - np.array(thresholds))), 0.5, rtol=1e-12)
    # Nothing moves at this rate: with a threshold of 0.62 and logits near zero few labels are ever present.
    assert len(pd.read_csv(run.files.history)) == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["methods=ml-gcn", "model.published_code=true"], "ml-gcn and published-code each bring a classifier"),
        (["methods=ice+signa", "methods.signa.published_code=true"], "ice and published-code each bring a classifier"),
    ],
)
def test_a_second_classifier_is_refused(settings, said):
    with pytest.raises(UserError, match=said):
        override(Experiment(name="x"), settings)


def test_single_label_data_is_refused():
    single = LabelContext(CONTEXT.names, "single-label", CONTEXT.training_labels, 1, 0)
    with pytest.raises(UserError, match="'published-code' is for multi-label data"):
        built("model.published_code=true", context=single)
