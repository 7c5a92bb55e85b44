"""Backbones from names, files and models: raw pixels in, a feature map out, one flat graph."""

import os
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from rsml.layers import Preprocess, ScenePredictions
from rsml.models import backbone_names, load_backbone, load_model, output_of
from rsml.models.backbones import with_bands
from rsml.models.names import known
from rsml.models.surgery import rebuild
from rsml.utils.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("uint8")
DATA = os.environ.get("RSML_TEST_DATA")
real_weights = pytest.mark.skipif(not DATA, reason="RSML_TEST_DATA is not set")


def predict(model, pixels):
    # Called once, a large network is quicker without being compiled.
    return keras.ops.convert_to_numpy(model(pixels.astype("float32"), training=False))


@pytest.mark.parametrize(
    ("spelling", "name", "mode"),
    [
        # torchvision's spelling, to the letter, is ours
        ("resnet50", "resnet50", "torch"),
        ("convnext_tiny", "convnext_tiny", "torch"),
        ("vgg16_bn", "vgg16_bn", "torch"),
        ("efficientnet_lite2", "efficientnet_lite2", "lite"),
        # any other is Keras's where Keras has one, as in folders and configs of before
        ("ResNet50", "keras:ResNet50", "caffe"),
        ("resnet-50", "keras:ResNet50", "caffe"),
        ("resnet152", "keras:ResNet152", "caffe"),
        ("vgg16", "keras:VGG16", "caffe"),
        ("Efficient-Net_B0", "keras:EfficientNetB0", "none"),
        ("convnexttiny", "keras:ConvNeXtTiny", "torch"),
        ("nasnetmobile", "keras:NASNetMobile", "tf"),
        ("efficientnetv2b3", "keras:EfficientNetV2B3", "torch"),
        ("EFFICIENTNETV2S", "keras:EfficientNetV2S", "signed"),
        ("densenet-121", "keras:DenseNet121", "torch"),
        ("keras:resnet50", "keras:ResNet50", "caffe"),
        ("Keras:ConvNeXt_Tiny", "keras:ConvNeXtTiny", "torch"),
        # and ours where only we have one
        ("ResNet-18", "resnet18", "torch"),
        ("ViT-B-16", "vit_b_16", "torch"),
    ],
)
def test_names_and_their_preprocessing(spelling, name, mode):
    found = known(spelling)
    assert (found.name, found.mode) == (name, mode)
    assert known(name) == found
    assert name in backbone_names()


def test_keras_has_no_backbone_of_ours():
    with pytest.raises(UserError, match="no backbone 'keras:resnet18'"):
        known("keras:resnet18")


def test_every_application_is_known():
    names = [name for name in backbone_names() if name.startswith("keras:")]
    assert len(names) >= 35
    for name in names:
        assert known(name).name == name and known(name).mode


@pytest.mark.parametrize("name", ["small", "resnet18", "MobileNetV3Small"])
def test_contract(name):
    backbone = load_backbone(name, image_size=64)
    assert backbone.model.input_shape == (None, 64, 64, 3)
    assert backbone.model.output_shape == (None, 2, 2, backbone.channels)
    assert list(backbone.stages) == ["stage1", "stage2", "stage3", "stage4"]
    sizes = [output_of(backbone.model, stage).shape[1] for stage in backbone.stages]
    assert sizes == [16, 8, 4, 2]
    assert not any(isinstance(layer, keras.Model) for layer in backbone.model.layers)
    assert not backbone.pretrained and backbone.report is None
    assert "64 x 64 x 3 pixels to 2 x 2 x" in backbone.text()


def test_small_is_small_and_keeps_its_signal():
    model = load_backbone("small", image_size=64).model
    assert 200_000 < model.count_params() < 500_000
    assert predict(model, PIXELS).std() > 0.1


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("MobileNetV3Small", "conv"),
        ("EfficientNetV2B0", "stem_conv"),
        ("ConvNeXtTiny", "convnext_tiny_stem_conv"),
    ],
)
def test_scaling_in_front_equals_scaling_inside(name, first):
    reference = rebuild(getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(64, 64, 3)))
    model = load_backbone(name, image_size=64).model
    model.get_layer(first).set_weights(reference.get_layer(first).get_weights())
    expected = predict(keras.Model(reference.input, output_of(reference, first)), PIXELS)
    np.testing.assert_allclose(predict(keras.Model(model.input, output_of(model, first)), PIXELS), expected, atol=1e-5)
    assert expected.std() > 0.1


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_raw_pixels_of_either_kind(dtype):
    model = load_backbone("small", image_size=64).model
    output = model.predict(PIXELS.astype(dtype), verbose=0)
    np.testing.assert_allclose(output, predict(model, PIXELS), rtol=1e-4, atol=1e-4)


def test_efficientnet_has_the_graph_of_its_imagenet_weights_for_any_bands():
    model = load_backbone("efficientnetb0", image_size=32, bands=5).model
    assert model.input_shape == (None, 32, 32, 5)
    scaled = keras.Model(model.input, output_of(model, "imagenet_rescaling"))
    expected = 255 / 255 / np.sqrt([0.229, 0.224, 0.225])
    output = predict(scaled, np.full((1, 32, 32, 5), 255, "uint8"))[0, 0, 0]
    np.testing.assert_allclose(output, [*expected, expected.mean(), expected.mean()], rtol=1e-5)


def test_bands_of_a_network_that_begins_with_a_model():
    # ConvNeXt's stem is a model of its own.
    stem = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(6, 4, strides=4, name="stem_conv")])
    image = keras.Input((32, 32, 3))
    model = with_bands(keras.Model(image, layers.Conv2D(2, 1)(stem(image))), 4)
    assert model.get_layer("stem_conv").kernel.shape == (4, 4, 4, 6)
    kernel = np.array(stem.layers[0].kernel)
    np.testing.assert_allclose(
        model.get_layer("stem_conv").kernel[:, :, 3], kernel.mean(2) * 3 / 4, rtol=1e-5, atol=1e-7
    )


def classifier(preprocess="tf", **about):
    keras.utils.set_random_seed(0)
    image = keras.Input((40, 40, 3), name="pixels")
    x = Preprocess(preprocess, name="scale")(image) if preprocess else image
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_a")(x)
    x = layers.Conv2D(6, 3, strides=2, activation="relu", name="conv_b")(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dense(3, name="logits")(x)
    return keras.Model(image, ScenePredictions(["a", "b", "c"], name="predictions", **about)(x))


@pytest.mark.parametrize("where", ["best.keras", "model.h5", "memory"])
def test_a_classifier_becomes_a_backbone(tmp_path, where):
    model = classifier()
    source = model
    if where != "memory":
        model.save(tmp_path / where)
        source = tmp_path if where == "best.keras" else tmp_path / where
    backbone = load_backbone(source, image_size=40)
    features = keras.Model(model.input, model.get_layer("conv_b").output)
    pixels = PIXELS[:, :40, :40]
    np.testing.assert_allclose(predict(backbone.model, pixels), predict(features, pixels), rtol=1e-6)
    assert backbone.pretrained
    assert load_backbone(source, image_size=(64, 48)).model.output_shape == (None, 15, 11, 6)


def test_a_file_for_other_bands_is_adapted_with_its_preprocessing(tmp_path):
    model = classifier("caffe")
    model.save(tmp_path / "model.keras")
    backbone = load_backbone(tmp_path / "model.keras", image_size=40, bands=1)
    mean = np.mean([103.939, 116.779, 123.68])
    kernel, bias = (np.array(w) for w in model.get_layer("conv_a").get_weights())
    grey = np.random.default_rng(1).uniform(0, 255, (1, 40, 40, 1)).astype("float32")
    reference = layers.Conv2D(8, 3, strides=2, activation="relu")
    reference.build((None, 40, 40, 3))
    reference.set_weights([kernel, bias])
    expected = predict(keras.Sequential([reference, model.get_layer("conv_b")]), np.repeat(grey - mean, 3, -1))
    np.testing.assert_allclose(predict(backbone.model, grey), expected, rtol=1e-3, atol=1e-3)


def test_a_file_must_say_how_it_wants_its_pixels(tmp_path):
    classifier(None).save(tmp_path / "model.keras")
    with pytest.raises(UserError, match="not in the file: give preprocess= one of none, unit, tf"):
        load_backbone(tmp_path / "model.keras", image_size=40)
    backbone = load_backbone(tmp_path / "model.keras", image_size=40, preprocess="unit")
    scaled = keras.Model(backbone.model.input, output_of(backbone.model, "preprocess"))
    np.testing.assert_allclose(predict(scaled, PIXELS[:, :40, :40]), PIXELS[:, :40, :40] / 255, rtol=1e-6)


def test_preprocessing_is_not_applied_twice(tmp_path):
    with pytest.raises(UserError, match=r"carries its own preprocessing \(tf\)"):
        load_backbone(classifier(), image_size=40, preprocess="torch")
    model = load_backbone(classifier(), image_size=40, preprocess="tf").model
    assert sum(isinstance(layer, Preprocess) for layer in model.layers) == 1


def test_own_means_and_scales():
    layer = Preprocess("custom", mean=[10, 20, 30], scale=[2, 2, 2], name="own")
    model = load_backbone("small", image_size=32, preprocess=layer).model
    scaled = keras.Model(model.input, output_of(model, "own"))
    output = predict(scaled, np.full((1, 32, 32, 3), 50, "uint8"))[0, 0, 0]
    np.testing.assert_allclose(output, [20, 15, 10])


def test_weights_of_a_run_start_a_backbone(tmp_path):
    trained = load_backbone("small", image_size=32)
    x = layers.GlobalAveragePooling2D()(trained.model.output)
    served = keras.Model(trained.model.input, ScenePredictions(["a", "b"])(layers.Dense(2, name="logits")(x)))
    served.set_weights([np.random.default_rng(0).uniform(0.1, 0.2, w.shape) for w in served.get_weights()])
    served.save(tmp_path / "best.keras")
    backbone = load_backbone("small", image_size=64, weights=tmp_path)
    assert backbone.pretrained
    assert backbone.report.layers == (26, 26)
    assert backbone.report.unused == ["logits"]
    for mine, other in zip(backbone.model.weights, trained.model.weights, strict=True):
        np.testing.assert_array_equal(mine, other)


# ---- faults


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "resnet51"}, "no backbone 'resnet51'.*did you mean .*resnet50.* or keras:ResNet50"),
        ({"name": "qqqqqqqq"}, "known are .*keras:EfficientNetB0"),
        ({"name": "vgg16", "image_size": 16}, "16 x 16 pixels are too small for keras:VGG16, which needs 32 x 32"),
        ({"name": "inceptionv3"}, "too small for keras:InceptionV3, which needs 75 x 75"),
        ({"name": "small", "image_size": 20}, "too small for small, which needs 32 x 32"),
        ({"name": "small", "image_size": 64.5}, "whole numbers of pixels; got 64.5"),
        ({"name": "small", "bands": 0}, "at least 1; got 0"),
        ({"name": "small", "preprocess": "imagenet"}, "no preprocessing 'imagenet'; choose one of none"),
        ({"name": "small", "weights": "imagenet"}, "small has no ImageNet weights"),
        ({"name": "nowhere.keras"}, "no weights at nowhere.keras"),
        ({"name": "runs/nowhere"}, "no weights at runs/nowhere"),
    ],
)
def test_user_faults_are_one_line(arguments, words):
    with pytest.raises(UserError, match=words) as caught:
        load_backbone(**{"image_size": 64, **arguments})
    assert "\n" not in str(caught.value)


def test_imagenet_without_network_is_one_line_and_quick(monkeypatch, tmp_path):
    # What Keras does where there is no network: the same exception, from its own download.
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", _no_network)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"ImageNet weights of keras:VGG16 could not be fetched.*give weights= a file"
    ) as caught:
        load_backbone("vgg16", image_size=32, weights="imagenet")
    assert time.monotonic() - start < 20
    assert "\n" not in str(caught.value)


def _no_network(*_, **__):
    import urllib.error

    raise urllib.error.URLError("Name or service not known")


def test_a_model_of_two_inputs_is_refused():
    one, two = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    with pytest.raises(UserError, match="a backbone takes one input"):
        load_backbone(keras.Model([one, two], layers.Add()([one, two])), image_size=32, preprocess="none")


def test_a_model_bound_to_its_size_is_refused():
    image = keras.Input((32, 32, 3))
    x = layers.Reshape((16, 16, 12))(image)
    model = keras.Model(image, layers.Conv2D(4, 3)(x))
    with pytest.raises(UserError, match="made for images of 32 x 32 and cannot take 64 x 64"):
        load_backbone(model, image_size=64, preprocess="none")


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_file_that_carries_code_is_refused_unless_trusted(tmp_path, suffix):
    image = keras.Input((32, 32, 3))
    x = layers.Lambda(lambda x: 2 * x, output_shape=(32, 32, 3))(image)
    model = keras.Model(image, layers.Conv2D(4, 3)(x))
    file = tmp_path / f"model.{suffix}"
    model.save(file)
    with pytest.raises(UserError, match=r"carries code .*Lambda.*trust"):
        load_backbone(file, image_size=32, preprocess="none")
    backbone = load_backbone(file, image_size=32, preprocess="none", trust=True)
    np.testing.assert_allclose(
        predict(backbone.model, PIXELS[:, :32, :32]), predict(model, PIXELS[:, :32, :32]), rtol=1e-5
    )


def test_weights_alone_are_no_model(tmp_path):
    classifier().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(UserError, match="holds weights alone"):
        load_model(tmp_path / "model.weights.h5")


def test_an_unknown_layer_is_named(tmp_path):
    class Unknown(layers.Layer):
        def call(self, x):
            return x

    image = keras.Input((32, 32, 3))
    keras.Model(image, Unknown()(image)).save(tmp_path / "model.keras")
    with pytest.raises(UserError, match="needs 'Unknown', which is not known here"):
        load_model(tmp_path / "model.keras")


def test_keras_hub_is_asked_for(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "keras_hub", None)
    with pytest.raises(UserError, match="needs keras-hub: pip install keras-hub"):
        load_backbone("keras_hub:resnet_18_imagenet", image_size=64)


# ---- published weights


@real_weights
@pytest.mark.parametrize(
    ("name", "file", "published", "layers_loaded"),
    [
        ("vgg16", "vgg16_imagenet_notop.weights.h5", "vgg16", 13),
        ("mobilenetv2", "mobilenetv2_imagenet_224_int8dequant_notop.weights.h5", "mobilenet_v2", 104),
    ],
)
def test_published_weights_give_the_published_network(name, file, published, layers_loaded):
    file = Path(DATA) / "weights" / file
    backbone = load_backbone(name, image_size=64, weights=file)
    assert backbone.report.layers == (layers_loaded, layers_loaded)
    assert backbone.report.parameters == (backbone.model.count_params(),) * 2
    module = getattr(keras.applications, published)
    build = {"vgg16": "VGG16", "mobilenet_v2": "MobileNetV2"}[published]
    reference = getattr(module, build)(weights=None, include_top=False, input_shape=(64, 64, 3))
    reference.load_weights(file)
    expected = predict(reference, module.preprocess_input(PIXELS.astype("float32")))
    np.testing.assert_allclose(predict(backbone.model, PIXELS), expected, atol=2e-5 * expected.max(), rtol=1e-4)
    assert expected.max() > 1


@real_weights
def test_efficientnet_lite_from_its_file():
    file = Path(DATA) / "weights" / "efficientnet_lite0_imagenet_notop.keras"
    if tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15):
        with pytest.raises(UserError, match=r"was saved by Keras 3\.15\.1, which writes options"):
            load_backbone(file, image_size=224, preprocess="lite")
        return
    backbone = load_backbone(file, image_size=224, preprocess="lite")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype("uint8")
    expected = predict(keras.saving.load_model(file), (pixels.astype("float32") - 127) / 128)
    np.testing.assert_allclose(predict(backbone.model, pixels), expected, atol=1e-5)
    assert backbone.stages["stage2"] == "block5_expand_relu6"
    four = load_backbone(file, image_size=64, preprocess="lite", bands=4)
    assert four.model.get_layer("stem_conv").kernel.shape == (3, 3, 4, 32)
