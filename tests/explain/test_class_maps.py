import keras
import numpy as np
import pytest

import rsml
from rsml.explain.class_maps import METHODS, ClassMaps, resized
from rsml.layers import ScenePredictions
from rsml.models import build_classifier, load_backbone
from rsml.models.backbones import Backbone
from rsml.models.swin import swin
from rsml.models.vit import vit
from rsml.utils.errors import UserError

LABELS = ["sea", "bare-soil", "trees"]


def classifier(name="small", size=64):
    if name in (own := {"vit_s_16": vit, "swin_t": swin}):
        backbone = Backbone(name, own[name](name, (size, size)))
    else:
        backbone = load_backbone(name, image_size=size)
    return build_classifier(backbone, len(LABELS)).served(labels=LABELS)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return classifier()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (3, 64, 64, 3)).astype("float32")


@pytest.mark.parametrize("method", METHODS)
def test_maps_are_those_of_the_formulas(method):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    mapped = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="map")(inputs)
    hidden, logits = keras.layers.Dense(4, activation="softplus"), keras.layers.Dense(3)
    outputs = ScenePredictions(LABELS, name="predictions")(logits(hidden(keras.layers.Flatten()(mapped))))
    model = keras.Model(inputs, outputs)
    images = np.random.default_rng(1).uniform(0, 1, (2, 8, 8, 3)).astype("float32")

    maps = keras.Model(inputs, mapped)(images).numpy().astype("float64")
    first, bias = hidden.get_weights()
    slopes = 1 / (1 + np.exp(-(maps.reshape(2, -1) @ first + bias)))
    gradient = ((slopes * logits.get_weights()[0][:, 2]) @ first.T).reshape(maps.shape)
    positive = np.maximum(gradient, 0)
    if method == "grad-cam":
        weights = gradient.mean((1, 2), keepdims=True)
    elif method == "layercam":
        weights = positive
    else:
        share = gradient**2 / (2 * gradient**2 + maps.sum((1, 2), keepdims=True) * gradient**3)
        weights = (share * positive).sum((1, 2), keepdims=True)
    expected = np.maximum((weights * maps).sum(-1), 0)

    found = ClassMaps(model, "map", method)(images, ["trees"], scaled=False)[:, 0]
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_each_image_and_label_has_the_map_it_has_alone(model, images):
    maps = ClassMaps(model, method="layercam")
    together = maps(images, batch_size=2)
    assert together.shape[:2] == (3, 3)
    for row, label in np.ndindex(3, 3):
        alone = maps(images[row : row + 1], [LABELS[label]])
        np.testing.assert_allclose(together[row, label], alone[0, 0], atol=1e-4)
    assert together.min() >= 0 and together.max() <= 1
    assert maps(images[:0]).shape == (0, 3, *maps.size)


def test_the_default_is_the_deepest_map_that_says_where():
    for side, least in ((64, 7), (224, 7), (32, 4)):
        maps = ClassMaps(classifier(size=side))
        assert min(maps.size) >= least
    # 64 pixels end in 4 x 4 or less, which is not chosen.
    model = classifier(size=64)
    assert ClassMaps(model).size[0] > model.get_layer("features").input.shape[1]


@pytest.mark.parametrize("name", ["resnet18", "vit_s_16", "swin_t"])
def test_backbones_of_every_kind_have_maps(name, images):
    model = classifier(name, 64)
    found = ClassMaps(model)(images[:1], ["sea"])
    assert found.shape[2] == found.shape[3] > 1 and np.isfinite(found).all()


def test_tokens_are_laid_out_as_their_patches(images):
    model = classifier("vit_s_16", 64)
    maps = ClassMaps(model, "blocks_5_add2", "layercam")
    assert maps.size == (4, 4)
    found = maps(images, ["sea"])
    laid_out = ClassMaps(model, "stage2_map", "layercam")(images, ["sea"])
    np.testing.assert_allclose(found, laid_out, atol=1e-4)  # the map of stage 2 is that of block 5


def test_labels_are_found_in_any_spelling(model, images):
    maps = ClassMaps(model)
    np.testing.assert_array_equal(maps(images, ["Bare Soil"]), maps(images, [1]))
    assert maps.columns(None) == [0, 1, 2]


def test_resized_keeps_the_leading_axes():
    maps = np.arange(2 * 3 * 4 * 4, dtype="float32").reshape(2, 3, 4, 4)
    large = resized(maps, (8, 8))
    assert large.shape == (2, 3, 8, 8)
    np.testing.assert_allclose(large.mean((2, 3)), maps.mean((2, 3)), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "labels", "message"),
    [
        ({"method": "gradcam"}, None, "there is no method 'gradcam' \\(did you mean 'grad-cam'"),
        ({"after": "features"}, None, "layer 'features': its output \\(\\d+\\) is no feature map; choose one of"),
        ({"after": "stage9"}, None, "no layer or stage 'stage9'; it has stage1"),
        ({}, ["tree"], None),
        ({}, ["lake"], "label 'lake': the model has no such label"),
        ({}, [7], "label 7: the model has 3, counted from 0"),
        ({}, "sea", "expected a list of labels, found 'sea'"),
        ({}, [], "expected a list of labels"),
    ],
)
def test_bad_input_is_named(model, images, options, labels, message):
    if message is None:
        assert ClassMaps(model, **options).columns(labels) == [2]
        return
    with pytest.raises(UserError, match=message) as fault:
        ClassMaps(model, **options)(images, labels)
    assert "\n" not in str(fault.value)


def test_a_model_without_a_map_is_named(images):
    inputs = keras.Input((12,))
    outputs = ScenePredictions(LABELS)(keras.layers.Dense(3)(inputs))
    with pytest.raises(UserError, match="flat: has no feature map"):
        ClassMaps(keras.Model(inputs, outputs, name="flat"))
    with pytest.raises(UserError, match="not an rsml classifier"):
        ClassMaps(keras.Model(inputs, keras.layers.Dense(3)(inputs)))


def test_the_package_hands_it_out():
    assert rsml.ClassMaps is ClassMaps
