"""ICE as a method: its head on any backbone, the objective it brings, what it refuses, and its config."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from rsml.config import Data, Experiment, override
from rsml.config_files import load_config
from rsml.data.samples import SPLITS
from rsml.data.source import load_samples
from rsml.methods import ICE, LabelContext
from rsml.methods.objectives import CrossEntropy, Focal, ImprovedCrossEntropy, NoObjective
from rsml.models import load_backbone
from rsml.models.backbones import smallest_image_size
from rsml.models.insert import output_of
from rsml.prediction.labelling import measure_split
from rsml.prediction.scene_model import open_model
from rsml.run import Run
from rsml.training.loop import build, choose_objective, train
from rsml.utils.errors import UserError

ROOT = Path(__file__).parents[2]
NAMES = ("forest", "sand", "water", "buildings", "field")
CONTEXT = LabelContext(NAMES, "single-label", np.eye(5, dtype=np.uint8), epochs=4, seed=0)
MULTI = LabelContext(NAMES, "multi-label", np.triu(np.ones((5, 5), np.uint8)), epochs=4, seed=0)


def experiment(*settings, size=128):
    return override(Experiment(name="x", data=Data(image_size=size), methods="ice"), settings)[0]


def network(*settings, size=128, context=CONTEXT):
    keras.utils.set_random_seed(0)
    return build(experiment(*settings, size=size), context).network


def head(model):
    """The layers behind the backbone, as `(type, what decides it)`."""
    tell = {
        "SqueezeExcite": lambda layer: (layer.squeeze.units, layer.use_bias, type(layer.kernel_initializer).__name__),
        "MaxPooling2D": lambda layer: (*layer.pool_size, *layer.strides, layer.padding),
        "GlobalAveragePooling2D": lambda layer: None,
        "Dropout": lambda layer: layer.rate,
        "Dense": lambda layer: (layer.units, layer.activation.__name__),
    }
    names = [layer.name for layer in model.layers]
    behind = model.layers[names.index("ice_squeeze_excite") :]
    return [(kind := type(layer).__name__, tell[kind](layer)) for layer in behind]


def test_the_head_is_the_papers():
    assert head(network()) == [
        ("SqueezeExcite", (128 // 6, False, "HeNormal")),
        ("MaxPooling2D", (4, 4, 1, 1, "valid")),
        ("GlobalAveragePooling2D", None),
        ("Dropout", 0.4),
        ("Dense", (728, "linear")),
        ("Dropout", 0.3),
        ("Dense", (256, "linear")),
        ("Dropout", 0.2),
        ("Dense", (5, "linear")),
    ]


def test_every_option_changes_its_layer():
    options = ["ratio=8", "pool=2", "widths=[64]", "dropouts=[0.5,0]"]
    assert head(network(*(f"methods.ice.{option}" for option in options))) == [
        ("SqueezeExcite", (128 // 8, False, "HeNormal")),
        ("MaxPooling2D", (2, 2, 1, 1, "valid")),
        ("GlobalAveragePooling2D", None),
        ("Dropout", 0.5),
        ("Dense", (64, "linear")),
        ("Dense", (5, "linear")),
    ]


def test_the_head_computes_what_the_paper_says():
    """Squeeze-and-excitation, max-pool, average and the linear layers, each written out in numpy."""
    model = network("methods.ice.widths=[7]", "methods.ice.dropouts=[0.4,0.3]", "methods.ice.pool=3")
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3)).astype("float32")
    names = [layer.name for layer in model.layers]
    before = keras.Model(model.input, output_of(model, names[names.index("ice_squeeze_excite") - 1]))
    feature_map = before(images).numpy().astype("float64")

    squeeze, excite = (weight.numpy() for weight in model.get_layer("ice_squeeze_excite").weights)
    z = feature_map.mean((1, 2))
    gate = 1 / (1 + np.exp(-np.maximum(z @ squeeze, 0) @ excite))
    windows = np.lib.stride_tricks.sliding_window_view(feature_map * gate[:, None, None], (3, 3), (1, 2))
    x = windows.max((-1, -2)).mean((1, 2))
    for name in ("ice_dense1", "logits"):
        kernel, bias = (weight.numpy() for weight in model.get_layer(name).weights)
        x = x @ kernel + bias
    np.testing.assert_allclose(model(images)["logits"], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("methods", ["signa+ice", "ice+signa"])
def test_it_stays_behind_what_others_insert_in_either_order(methods):
    built = network(f"methods={methods}", "methods.signa.after=stage4", "methods.signa.heads=1", context=MULTI)
    names = [layer.name for layer in built.layers]
    assert names.index("signa_stage4") < names.index("ice_squeeze_excite") < names.index("ice_max_pool")


def test_it_composes_with_se_net_and_clashes_with_ml_gcn():
    names = [layer.name for layer in network("methods=se-net+ice").layers]
    assert names.index("squeeze_excite_stage4") < names.index("ice_squeeze_excite")
    with pytest.raises(UserError, match="ice and ml-gcn each bring a classifier; keep one"):
        experiment("methods=ice+ml-gcn")


@pytest.mark.parametrize(("backbone", "size"), [("mobilenet", 127), ("vgg16", 128), ("resnet18", 100)])
def test_it_goes_on_any_backbone_at_any_size_that_leaves_four_by_four(backbone, size):
    built = network(f"model.backbone={backbone}", "methods.ice.widths=[8]", "methods.ice.dropouts=[0,0]", size=size)
    assert built.output["logits"].shape == (None, 5)
    assert built.get_layer("ice_max_pool").output.shape[1:3] == (1, 1)


def test_a_feature_map_that_is_too_small_names_the_smallest_image_that_works():
    with pytest.raises(UserError) as fault:
        network(size=64)
    assert str(fault.value) == (
        "method 'ice' pools 4 x 4 features, and small makes 2 x 2 of 64 x 64 pixels; raise data.image_size to 97 or "
        "more, or set methods.ice.pool=2"
    )
    assert network(size=97).output["logits"].shape == (None, 5)
    assert network("methods.ice.pool=2", size=64).output["logits"].shape == (None, 5)


@pytest.mark.parametrize(("name", "size", "side"), [("vgg16", 64, 3), ("small", 33, 3)])
def test_the_smallest_size_is_the_smallest(name, size, side):
    found = smallest_image_size(load_backbone(name, image_size=size), side)
    sides = [load_backbone(name, image_size=found + more).model.output_shape[1] for more in (-1, 0)]
    assert sides == [side - 1, side]


def test_a_backbone_from_a_file_gets_no_promise_of_a_size(tmp_path):
    load_backbone("small", image_size=64).model.save(tmp_path / "own.keras")
    with pytest.raises(UserError, match=r"own.keras makes 2 x 2 of 64 x 64 pixels; raise data.image_size, or set"):
        network(f"model.backbone={tmp_path / 'own.keras'}", size=64)


@pytest.mark.parametrize(
    ("settings", "task", "expected"),
    [
        (["methods=ice"], "single-label", ImprovedCrossEntropy()),
        (["methods=ice+se-net"], "single-label", ImprovedCrossEntropy()),
        (["methods=ice", "objective=cross-entropy"], "single-label", CrossEntropy()),
        (["methods=ice"], "multi-label", CrossEntropy()),
        (["methods=ice", "objective=focal"], "multi-label", Focal()),
        (["methods=ice+r4c", "objective=none"], "single-label", NoObjective()),
        (["methods=ice+r4c"], "multi-label", NoObjective()),
        (["methods=plain"], "single-label", CrossEntropy()),
    ],
)
def test_the_objective_is_the_experiments_or_the_methods(settings, task, expected):
    assert choose_objective(experiment(*settings), task) == expected


def test_methods_of_different_objectives_need_one_named():
    with pytest.raises(UserError, match=r"ice wants improved-cross-entropy, r4c wants none\); name one with --set"):
        choose_objective(experiment("methods=ice+r4c"), "single-label")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["methods.ice.widths=[64]"], "1 widths and 3 dropouts; give one dropout before each width and one before"),
        (["methods.ice.dropouts=[0.4,0.3,1.0]"], "dropouts"),
        (["methods.ice.pool=0"], "pool"),
        (["methods.ice.ratio=0"], "ratio"),
        (["methods.ice.hidden=3"], "unknown key 'hidden'"),
    ],
)
def test_what_cannot_be_is_one_line(settings, said):
    with pytest.raises(UserError) as fault:
        experiment(*settings)
    assert said in str(fault.value)
    assert "\n" not in str(fault.value) and len(str(fault.value)) < 300


@pytest.fixture(scope="module")
def divided(scene_folder, tmp_path_factory):
    """The authors' "ready" layout: train/<class>/ and valid/<class>/, no third part."""
    root = tmp_path_factory.mktemp("ready")
    for number, image in enumerate(sorted(scene_folder.glob("*/*.png"))):
        part = "valid" if number % 4 == 0 else "train"
        (root / part / image.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, root / part / image.parent.name)
    return root


def recipe(*arguments, settings=()):
    return override(load_config(ROOT / "configs" / "ice.py", arguments), settings)[0]


SHORT = (
    "methods.ice.pool=1",
    "methods.ice.widths=[16]",
    "methods.ice.dropouts=[0.1,0.1]",
    "training.learning_rate=0.02",
    "evaluation.resamples=0",
    "evaluation.figures=false",
)


def test_the_ready_folders_train_and_measure_without_a_test_part(divided, tmp_path):
    small = ("backbone=small", "weights=None", "size=32", "epochs=3")
    run = train(recipe(f"folder={divided}", *small, settings=SHORT), root=tmp_path)
    history, metrics = pd.read_csv(run.files.history), json.loads(run.files.metrics.read_text())
    assert run.name == "ice-ucm" and list(metrics) == ["run", "valid"]
    assert metrics["valid"]["metrics"]["accuracy"] == pytest.approx(history["val_accuracy"].max())
    assert history["val_accuracy"].max() > 0.6
    assert len(pd.read_csv(run.files.predictions)) == 9
    measured = measure_split(*open_model(run.folder)).summary
    assert measured["metrics"]["accuracy"] == pytest.approx(metrics["valid"]["metrics"]["accuracy"])


def test_the_honest_variant_tests_on_what_the_published_one_chooses_by(divided):
    published = load_samples(recipe(f"folder={divided}").data)
    honest = load_samples(recipe(f"folder={divided}", "honest=true").data)
    assert {part: len(published.part(part)) for part in SPLITS} == {"train": 27, "valid": 9, "test": 0}
    assert {part: len(honest.part(part)) for part in SPLITS} == {"train": 24, "valid": 3, "test": 9}
    assert set(honest.part("test").paths) == set(published.part("valid").paths)


def test_a_division_that_has_all_three_parts_needs_no_further_one(multilabel_csv):
    with pytest.raises(UserError, match=r"has a validation and a test part of its own; leave out data.validation_from"):
        load_samples(Data(source=str(multilabel_csv), validation_from_train=10))


def test_what_cannot_be_built_leaves_no_folder_and_no_old_run_is_lost(divided, tmp_path):
    small = (f"folder={divided}", "backbone=small", "weights=None", "size=32", "epochs=1")
    with pytest.raises(UserError, match="pools 4 x 4"):
        train(recipe(*small), root=tmp_path)
    assert not list(tmp_path.iterdir())
    run = Run.start(recipe(*small), tmp_path)
    run.files.best.write_bytes(b"an old model")
    before = {path: path.read_bytes() for path in run.folder.iterdir()}
    with pytest.raises(UserError, match="pools 4 x 4"):
        train(recipe(*small), root=tmp_path, fresh=True)
    assert {path: path.read_bytes() for path in run.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("dataset", "fractions"),
    [
        ("ucm", (80, 20, 0)),
        ("aid-50", (50, 50, 0)),
        ("aid-70", (70, 30, 0)),
        ("nwpu-20", (20, 80, 0)),
        ("nwpu-30", (30, 70, 0)),
        ("whu", (60, 40, 0)),
    ],
)
def test_the_config_is_the_papers_recipe(dataset, fractions):
    made = recipe(f"dataset={dataset}")
    training, augment = made.training, made.augment
    assert made.data.fractions == fractions and made.data.image_size == 256 and made.methods == (ICE(),)
    assert (augment.rotation, augment.width_shift, augment.height_shift) == (22, 0.19, 0.18)
    assert augment.horizontal_flip and not augment.vertical_flip
    assert (training.optimizer, training.learning_rate, training.momentum) == ("sgd", 1e-3, 0.9)
    assert (training.minimum_rate, training.backbone_rate) == (1e-4, 1.0)
    assert (training.batch_size, training.epochs, training.monitor) == (32, 500, "accuracy")
    assert (made.model.backbone, made.model.weights, made.model.preprocess) == ("nasnetmobile", "imagenet", "unit")
