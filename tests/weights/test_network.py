"""Going on from a whole network: inserted layers and heads of old files, of ours, and of runs."""

import keras
import numpy as np
import pytest

from rsml.config import Experiment
from rsml.methods import LabelContext
from rsml.models import load_backbone, load_model, load_weights
from rsml.training.loop import build
from rsml.utils.errors import UserError
from rsml.weights.network import labels_in

NAMES = ("beach", "forest", "harbor", "river", "runway")
IMAGES = np.random.default_rng(1).integers(0, 256, (4, 64, 64, 3)).astype("float32")


def network(names=NAMES, seed=1, **model):
    keras.utils.set_random_seed(seed)
    experiment = Experiment(
        name="x",
        data={"image_size": 64},
        model={"backbone": "small", "preprocess": "unit", **model},
        methods=({"kind": "ice", "widths": (12, 7), "dropouts": (0.4, 0.3, 0.2), "pool": 2},),
    )
    classifier = build(experiment, LabelContext(names, "single-label", np.eye(len(names)), 1, 0))
    return classifier, experiment


def shaken(classifier):
    """With batch statistics and biases of their own, so that nothing equal is so by chance."""
    random = np.random.default_rng(7)
    weights = classifier.network.get_weights()
    classifier.network.set_weights([random.uniform(0.5, 1.5, w.shape) * (w + 0.05) for w in weights])
    return classifier


def scores(classifier):
    return classifier.network.predict(IMAGES, verbose=0)["logits"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network, and files of it as rsml writes them."""
    folder = tmp_path_factory.mktemp("trained")
    classifier, experiment = network()
    served = shaken(classifier).served(labels=list(NAMES), task="single-label", experiment=experiment.dump())
    for name in ("best.keras", "best.h5"):
        served.save(folder / name)
    return folder, scores(classifier)


@pytest.mark.parametrize("name", ["best.keras", "best.h5", ""])
def test_our_own_files_and_runs_are_gone_on_from_whole(trained, name):
    folder, expected = trained
    assert labels_in(folder / name) == NAMES
    classifier, _ = network(seed=2, weights=str(folder / name))
    np.testing.assert_allclose(scores(classifier), expected, rtol=1e-5, atol=1e-5)
    report = classifier.backbone.report
    assert report.layers[0] == report.layers[1] and not report.unused and not report.skipped
    assert report.parameters == (classifier.network.count_params(),) * 2
    assert {"ice_squeeze_excite", "ice_dense1", "logits"} <= set(report.matched)


@pytest.mark.parametrize(
    ("names", "model"), [(NAMES[::-1], {}), (("a", "b", "c"), {}), (NAMES, {"head": "fresh"})],
    ids=["other order", "other labels", "fresh"],
)  # fmt: skip
def test_a_head_of_other_labels_starts_anew_and_the_rest_goes_on(trained, names, model):
    folder, _ = trained
    classifier, _ = network(names, seed=2, weights=str(folder), **model)
    report = classifier.backbone.report
    assert "logits" in report.skipped and "logits" in report.unused and "ice_dense2" in report.matched
    saved = dict(zip(*weights_of(load_model(folder)), strict=True))
    for name, weights in zip(*weights_of(classifier.network), strict=True):
        for mine, theirs in zip(weights, saved.get(name, ()), strict=name in saved):
            assert np.array_equal(mine, theirs) == (name != "logits")


def weights_of(model):
    layers = [layer for layer in model.layers if layer.weights]
    return [layer.name for layer in layers], [layer.get_weights() for layer in layers]


def test_a_head_that_must_be_loaded_and_cannot_is_one_line(trained):
    with pytest.raises(UserError, match=r"its head does not fit \(it has 5 labels .*, the data 3 .*model.head=auto"):
        network(("a", "b", "c"), weights=str(trained[0]), head="load")


def old_file(path, classes=5):
    """An ICE network over the layers of `small`, saved as the authors do: Keras made up the names of the head."""
    tf_keras = pytest.importorskip("tf_keras")
    from tests.weights import keras2

    small = load_backbone("small", image_size=64).model
    inputs, outputs = [], []
    # The backbone's layers stand side by side: which feeds which does not matter to a file of weights.
    for layer in small.layers:
        if layer.weights:
            kept = ("name", "filters", "kernel_size", "padding", "use_bias")
            config = {key: value for key, value in layer.get_config().items() if key in kept}
            inputs.append(tf_keras.layers.Input((4, 4, layer.input.shape[-1])))
            outputs.append(getattr(tf_keras.layers, type(layer).__name__)(**config)(inputs[-1]))
    features = tf_keras.layers.Input((4, 4, small.output.shape[-1]))
    outputs.append(keras2.classifier(features, classes, head=(12, 7)))
    model = tf_keras.Model([*inputs, features], outputs)
    return keras2.save(keras2.with_random_weights(model), path), model


def test_a_file_of_the_ice_authors_is_gone_on_from_head_included(tmp_path):
    path, old = old_file(tmp_path / "NasNet_Mobile_New_Loss3.02-0.98.h5")
    classifier, _ = network(seed=2, weights=str(path))
    report = classifier.backbone.report
    assert report.layers[0] == report.layers[1]
    assert not report.skipped and not report.unused
    assert {"ice_squeeze_excite/squeeze", "ice_squeeze_excite/excite", "ice_dense1", "logits"} <= set(report.matched)
    dense = [layer.get_weights() for layer in old.layers if type(layer).__name__ == "Dense"]
    ours = classifier.network
    squeeze = ours.get_layer("ice_squeeze_excite")
    for layer, weights in zip(
        [squeeze.squeeze, squeeze.excite, *(ours.get_layer(n) for n in ("ice_dense1", "ice_dense2", "logits"))],
        dense,
        strict=True,
    ):
        for mine, theirs in zip(layer.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_an_old_file_of_another_number_of_classes_gives_all_but_the_head(tmp_path):
    path, _ = old_file(tmp_path / "old.h5", classes=6)
    report = network(seed=2, weights=str(path))[0].backbone.report
    assert report.skipped == ["logits"] and len(report.unused) == 1 and "ice_dense2" in report.matched


def test_a_backbone_alone_leaves_the_rest_as_it_was(tmp_path):
    classifier, _ = network()
    shaken(classifier).backbone.model.save(tmp_path / "backbone.keras")
    fresh, _ = network(seed=2, weights=str(tmp_path / "backbone.keras"))
    assert {"ice_squeeze_excite", "ice_dense1", "ice_dense2", "logits"} == set(fresh.backbone.report.skipped)
    assert labels_in(tmp_path / "backbone.keras") is None
    same = keras.models.clone_model(classifier.backbone.model)
    load_weights(same, load_model(tmp_path / "backbone.keras"))
    np.testing.assert_allclose(same(IMAGES), fresh.backbone.model(IMAGES), atol=1e-5)
