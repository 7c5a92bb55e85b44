"""Every method, alone and with others, through the whole way: build, train a step, save, load."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from rsml.config import Data, Experiment, Training, override
from rsml.graph import cooccurrence, threshold_graph
from rsml.layers import SIGNA
from rsml.methods import METHODS, LabelContext
from rsml.training.loop import build, train
from rsml.utils.errors import UserError

LABELS = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 1]], dtype=np.uint8)
CONTEXT = LabelContext(("trees", "grass", "bare-soil"), "multi-label", LABELS, epochs=1, seed=0)


def experiment(*settings):
    return override(Experiment(name="x", data=Data(image_size=64)), settings)[0]


def network(*settings, context=CONTEXT):
    keras.utils.set_random_seed(0)
    return build(experiment(*settings), context).network


@pytest.mark.parametrize("method", sorted(METHODS))
def test_it_gives_logits_for_every_label_in_one_flat_graph(method):
    built = network(f"methods={method}", "data.image_size=128", context=replace(CONTEXT, task=METHODS[method].tasks[0]))
    assert built.output["logits"].shape == (None, 3)
    assert not any(isinstance(layer, keras.Model) for layer in built.layers)


@pytest.mark.parametrize("methods", ["signa", "ml-gcn", "se-net+signa", "signa+ml-gcn"])
def test_it_trains_and_the_saved_model_needs_nothing_else(methods, multilabel_csv, tmp_path):
    run = train(
        Experiment(
            name="x",
            data=Data(source=str(multilabel_csv), task="multi-label", image_size=32),
            methods=methods,
            training=Training(epochs=1, batch_size=12),
            evaluation={"figures": False, "page": False, "resamples": 0},
        ),
        root=tmp_path,
    )
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype("uint8")
    model = keras.models.load_model(run.files.best)
    scores = model.predict(images, verbose=0)
    model.save(tmp_path / "model.h5")
    np.testing.assert_allclose(
        keras.models.load_model(tmp_path / "model.h5").predict(images, verbose=0), scores, atol=1e-6
    )


def test_signas_graph_is_that_of_the_training_labels():
    layer = next(
        layer for layer in network("methods=signa", "methods.signa.threshold=0.6").layers if isinstance(layer, SIGNA)
    )
    np.testing.assert_allclose(layer.graph, threshold_graph(cooccurrence(LABELS), 0.6))


def test_signa_goes_in_at_several_stages():
    built = network("methods=signa", "methods.signa.after=stage2+stage3", "methods.signa.heads=1")
    names = [layer.name for layer in built.layers if isinstance(layer, SIGNA)]
    assert names == ["signa_stage2", "signa_stage3"]


@pytest.mark.parametrize("backbone", ["efficientnetb0", "convnexttiny"])
def test_signa_goes_into_other_backbones(backbone):
    built = network(f"model.backbone={backbone}", "methods=signa", "methods.signa.heads=1")
    assert any(isinstance(layer, SIGNA) for layer in built.layers)


@pytest.mark.parametrize(
    ("settings", "context", "said"),
    [
        (["methods=signa", 'methods.signa.after=["stage9"]'], CONTEXT, "stage9"),
        (["methods=signa"], LabelContext(("sea",), "multi-label", LABELS[:, :1], 1, 0), "only 'sea'"),
        (["methods=ml-gcn"], LabelContext(CONTEXT.names, "single-label", LABELS, 1, 0), "occur together"),
        (["methods=signa"], LabelContext(("trees", "xyzzy", "sea"), "multi-label", LABELS, 1, 0), "xyzzy"),
        (["methods=signa", "methods.signa.word_vectors=nowhere.txt"], CONTEXT, "nowhere.txt"),
    ],
)
def test_what_cannot_be_is_one_line(settings, context, said):
    with pytest.raises(UserError, match=said) as fault:
        network(*settings, context=context)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("methods.signa.threshold=1.2", "threshold"),
        ("methods.signa.gnn=gin", "gnn"),
        ("methods.signa.after=[]", "after"),
    ],
)
def test_wrong_options_are_refused(setting, said):
    with pytest.raises(UserError, match=said):
        experiment("methods=signa", setting)


def test_two_classifiers_are_refused_by_name():
    with pytest.raises(UserError, match="ml-gcn and ml-gcn each bring a classifier"):
        experiment("methods=ml-gcn+ml-gcn")


def test_ml_gcn_brings_its_pooling():
    assert any(isinstance(layer, keras.layers.GlobalMaxPooling2D) for layer in network("methods=ml-gcn").layers)
