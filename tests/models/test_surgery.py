"""Strides, stages and rebuilding of functional graphs."""

import keras
import numpy as np
import pytest
from keras import layers

from rsml.models import output_of, stages_of
from rsml.models.surgery import calls, feature_map, rebuild
from rsml.utils.errors import UserError

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")


def shapes_at_stages(model):
    by_name = {call.name: call for call in calls(model)}
    return {stage: tuple(by_name[name].outputs[0].shape[1:]) for stage, name in stages_of(model).items()}


def test_resnet50_has_the_papers_stages():
    model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3))
    assert stages_of(model) == {
        "stage1": "conv2_block3_out",
        "stage2": "conv3_block4_out",
        "stage3": "conv4_block6_out",
        "stage4": "conv5_block3_out",
    }
    assert shapes_at_stages(model) == {
        "stage1": (56, 56, 256),
        "stage2": (28, 28, 512),
        "stage3": (14, 14, 1024),
        "stage4": (7, 7, 2048),
    }


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("VGG16", 32, ["block3_conv3", "block4_conv3", "block5_conv3", "block5_pool"]),
        # The expanded features before a strided convolution are on the trunk; the residual branch beside it is not.
        ("MobileNetV2", 32, ["block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu", "out_relu"]),
        # Before activation: the sum, not the normalised copy that one branch takes.
        ("ResNet50V2", 64, ["conv2_block2_out", "conv3_block3_out", "conv4_block5_out", "post_relu"]),
        ("NASNetMobile", 96, [None, "normal_concat_3", "normal_concat_8", None]),
    ],
)
def test_stages_of_other_families(name, size, expected):
    model = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(size, size, 3))
    found = list(stages_of(model).values())
    assert [f for f, e in zip(found, expected, strict=True) if e] == [e for e in expected if e]


def test_strides_count_steps_not_sizes():
    # Unpadded layers shrink 11 pixels to 5, 2 and 1, yet the stride after two strided layers is 4.
    image = keras.Input((11, 11, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, name="a")(image)
    x = layers.MaxPooling2D(3, strides=2, name="b")(x)
    x = layers.Conv2D(4, 2, name="c")(x)
    assert {call.name: call.stride for call in calls(keras.Model(image, x))} == {"image": 1, "a": 2, "b": 4, "c": 4}


def test_a_stage_ends_on_the_trunk_before_padding():
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(4, 3, strides=4, padding="same", name="stem")(image)
    y = layers.Conv2D(4, 3, padding="same", name="branch")(x)
    x = layers.Add(name="sum")([x, y])
    z = layers.Conv2D(4, 1, name="late_branch")(x)
    z = layers.Conv2D(4, 3, strides=2, padding="same", name="down")(z)
    x = layers.ZeroPadding2D(1, name="pad")(x)
    x = layers.MaxPooling2D(3, 2, name="pool")(x)
    x = layers.Concatenate(name="join")([x, z])
    model = keras.Model(image, x)
    assert stages_of(model) == {"stage1": "sum", "stage2": "join"}
    assert [call.name for call in calls(model) if call.bottleneck] == ["image", "stem", "sum", "join"]


def nested_model():
    inner_image = keras.Input((32, 32, 8), name="inner_image")
    x = layers.Conv2D(8, 3, padding="same", name="inner_conv")(inner_image)
    x = layers.BatchNormalization(name="inner_norm")(x)
    inner = keras.Model(inner_image, layers.Add(name="inner_add")([x, inner_image]), name="inner")
    tail = keras.Sequential(
        [keras.Input((32, 32, 8)), layers.Conv2D(4, 3, name="tail_conv"), layers.ReLU(name="tail_relu")]
    )
    image = keras.Input((32, 32, 3), name="pixels")
    x = layers.Conv2D(8, 1, name="outer_conv")(image)
    return keras.Model(image, tail(inner(x, training=False)))


def test_nested_models_are_dissolved_and_compute_the_same():
    model = nested_model()
    flat = rebuild(model)
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
    assert [layer.name for layer in flat.layers if layer.weights] == [
        "outer_conv",
        "inner_conv",
        "inner_norm",
        "tail_conv",
    ]
    np.testing.assert_array_equal(flat(IMAGES), model(IMAGES))
    assert {id(w) for w in flat.weights} == {id(w) for w in model.weights}


def test_a_nested_model_trains_as_before():
    # Whether training=False given to a nested model outlasts the outer call depends on the version of Keras.
    model = nested_model()
    model(IMAGES, training=True)
    norm = next(layer for layer in model._flatten_layers() if layer.name == "inner_norm")
    expected = np.array(norm.moving_mean)
    norm.moving_mean.assign(np.zeros(8))
    rebuild(model)(IMAGES, training=True)
    np.testing.assert_array_equal(norm.moving_mean, expected)


def test_the_graph_is_cut_and_started_elsewhere():
    model = nested_model()
    flat = rebuild(model)
    image = keras.Input((32, 32, 3), name="half_pixels")
    doubled = layers.Rescaling(2.0)(image)
    cut = rebuild(flat, inputs=image, start=doubled, output=output_of(flat, "inner_add"))
    expected = keras.Model(flat.input, output_of(flat, "inner_add"))(2 * IMAGES)
    np.testing.assert_allclose(cut(IMAGES), expected, rtol=1e-6)


def test_feature_map_is_the_last_before_the_head():
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, strides=2, name="map")(image)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Multiply(name="gated")([x, gate])
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(10, 1)(x)
    model = keras.Model(image, layers.Flatten()(x))
    assert feature_map(model) is output_of(model, "gated")


def test_a_model_without_a_map_is_refused():
    values = keras.Input((5,))
    with pytest.raises(UserError, match="has no feature map"):
        feature_map(keras.Model(values, layers.Dense(3)(values)))


def test_a_subclassed_model_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UserError, match="not a functional Keras model"):
        rebuild(Own())
