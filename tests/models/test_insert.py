"""Layers put after any layer: the graph is rewired entirely, shares its weights, and saves."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from rsml.models import insert_after, load_backbone, output_of, stages_of
from rsml.utils.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")


@keras.saving.register_keras_serializable("rsml_tests")
class Gate(layers.Layer):
    """A squeeze and a gate, with layers inside, that takes feature maps only."""

    def __init__(self, ratio=2, **kwargs):
        super().__init__(**kwargs)
        self.ratio = ratio

    def build(self, input_shape):
        if len(input_shape) != 4:
            raise ValueError(f"Gate takes (batch, height, width, channels); got {input_shape}.")
        self.squeeze = layers.Dense(max(1, input_shape[-1] // self.ratio), "relu")
        self.excite = layers.Dense(input_shape[-1], "sigmoid", bias_initializer="random_normal")
        self.squeeze.build((None, input_shape[-1]))
        self.excite.build((None, max(1, input_shape[-1] // self.ratio)))

    def call(self, x):
        return x * self.excite(self.squeeze(ops.mean(x, axis=(1, 2))))[:, None, None]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "ratio": self.ratio}


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_inserted_layers_save_and_load(tmp_path, suffix):
    backbone = load_backbone("small", image_size=64)
    changed = backbone.insert_after("stage2", Gate(name="gate2")).insert_after("stage4", Gate(4, name="gate4"))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("uint8")
    before = changed.model.predict(images, verbose=0)
    changed.model.save(tmp_path / f"model.{suffix}")
    again = keras.models.load_model(tmp_path / f"model.{suffix}", compile=False)
    assert np.abs(before).max() > 1e-2
    np.testing.assert_allclose(again.predict(images, verbose=0), before, rtol=1e-6, atol=1e-6)
    assert [layer.name for layer in again.layers] == [layer.name for layer in changed.model.layers]


def two_ways():
    """One layer read by three others."""
    image = keras.Input((4, 4, 2), name="image")
    x = layers.Rescaling(3.0, name="triple")(image)
    a = layers.Rescaling(1.0, offset=1.0, name="plus")(x)
    b = layers.Multiply(name="square")([x, x])
    return keras.Model(image, layers.Add(name="sum")([a, b, x]))


def test_every_reader_of_the_layer_is_rewired():
    x = np.random.default_rng(1).normal(size=(2, 4, 4, 2)).astype("float32")
    model = insert_after(two_ways(), "triple", layers.Rescaling(0.5, name="half"))
    y = 1.5 * x
    np.testing.assert_allclose(model(x), (y + 1) + y * y + y, rtol=1e-5)


def test_after_the_input_and_after_the_output():
    x = np.random.default_rng(1).normal(size=(2, 4, 4, 2)).astype("float32")
    model = insert_after(two_ways(), "image", layers.Rescaling(2.0, name="double"))
    model = insert_after(model, "sum", layers.Rescaling(10.0, name="tenfold"))
    y = 6 * x
    np.testing.assert_allclose(model(x), 10 * (y * y + 2 * y + 1), rtol=1e-5)


def test_weights_are_shared_not_copied():
    model = load_backbone("small", image_size=32).model
    changed = insert_after(model, "stage2", Gate(name="gate"))
    old = {id(weight) for weight in model.weights}
    assert old < {id(weight) for weight in changed.weights}
    assert len(changed.weights) == len(model.weights) + 4


def test_a_stage_is_what_was_inserted_at_its_end():
    model = load_backbone("small", image_size=32).model
    assert stages_of(model)["stage2"] == "block2_out"
    once = insert_after(model, "stage2", layers.Rescaling(2.0, name="first"))
    twice = insert_after(once, "stage2", layers.Rescaling(2.0, offset=1.0, name="second"))
    assert stages_of(twice) == {**stages_of(model), "stage2": "second"}
    # first, then second: 2 * (2 x) + 1
    inner = keras.Model(twice.input, [output_of(twice, "block2_out"), output_of(twice, "second")])
    before, after = inner(IMAGES)
    np.testing.assert_allclose(after, 4 * before + 1, rtol=1e-5)
    assert stages_of(model)["stage2"] == "block2_out"


def test_a_layer_that_changes_nothing_changes_nothing():
    model = load_backbone("small", image_size=32).model
    changed = model
    for stage in ("stage1", "stage2", "stage3", "stage4", "block1_relu"):
        changed = insert_after(changed, stage, layers.Activation("linear", name=f"nothing_{stage}"))
    np.testing.assert_array_equal(changed.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))


def test_inserting_into_a_nested_model_finds_its_layers():
    base = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="inner_conv")], name="base")
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(base(image)))
    x = np.ones((1, 8, 8, 3), "float32")
    changed = insert_after(model, "inner_conv", layers.Rescaling(3.0, name="triple"))
    np.testing.assert_allclose(changed(x), 3 * model(x).numpy(), rtol=1e-5)


def test_unknown_place_lists_the_nearest():
    model = load_backbone("small", image_size=32).model
    with pytest.raises(UserError) as caught:
        insert_after(model, "block2_third_conv", Gate())
    message = str(caught.value)
    assert "no layer or stage 'block2_third_conv'" in message
    assert "block2_first_conv" in message and "stage4 (block4_out)" in message
    assert "\n" not in message and message.count(",") < 12


def test_a_place_without_a_map_is_refused():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.GlobalAveragePooling2D(name="pool")(image))
    with pytest.raises(UserError, match=r"'gate' \(Gate\) cannot be put after 'pool'.*Gate takes"):
        insert_after(model, "pool", Gate(name="gate"))


def test_a_layer_that_breaks_the_rest_is_refused():
    model = load_backbone("small", image_size=32).model
    with pytest.raises(UserError, match="layers behind it do not take its output"):
        insert_after(model, "stage2", layers.Conv2D(5, 1, name="narrow"))


def test_a_name_in_use_is_refused():
    model = load_backbone("small", image_size=32).model
    with pytest.raises(UserError, match="already has a layer named 'stem_conv'"):
        insert_after(model, "stage2", layers.Activation("relu", name="stem_conv"))
