"""The Preprocess layer against Keras's own functions and plain arithmetic."""

import keras
import numpy as np
import pytest

from rsml.layers import Preprocess

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype("uint8")


@pytest.mark.parametrize(
    ("mode", "published"),
    [
        ("caffe", keras.applications.vgg16.preprocess_input),
        ("tf", keras.applications.mobilenet_v2.preprocess_input),
        ("torch", keras.applications.densenet.preprocess_input),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_modes_equal_the_published_functions(mode, published, dtype):
    output = keras.ops.convert_to_numpy(Preprocess(mode)(PIXELS.astype(dtype)))
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, published(PIXELS.astype("float32")), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("mode", "formula"),
    [
        ("none", lambda x: x),
        ("unit", lambda x: x / 255),
        ("lite", lambda x: (x - 127) / 128),
        ("signed", lambda x: x / 128 - 1),
    ],
)
def test_other_modes_by_formula(mode, formula):
    np.testing.assert_allclose(Preprocess(mode)(PIXELS), formula(PIXELS.astype("float64")), rtol=1e-6, atol=1e-6)


def test_further_bands_get_the_average_and_only_rgb_turns_into_bgr():
    pixels = np.full((1, 1, 1, 5), 100.0, "float32")
    mean = np.array([103.939, 116.779, 123.68])
    expected = 100 - np.array([*mean, mean.mean(), mean.mean()])
    np.testing.assert_allclose(Preprocess("caffe", bands=5)(pixels).numpy().ravel(), expected, rtol=1e-5)


def test_one_band_gets_the_average():
    output = Preprocess("torch", bands=1)(np.full((1, 1, 1, 1), 80.0, "float32"))
    mean, deviation = 255 * np.mean([0.485, 0.456, 0.406]), 255 * np.mean([0.229, 0.224, 0.225])
    np.testing.assert_allclose(output.numpy().item(), (80 - mean) / deviation, rtol=1e-5)


def test_config_holds_the_numbers_so_that_a_later_table_changes_nothing(monkeypatch):
    config = Preprocess("torch", bands=4).get_config()
    monkeypatch.setitem(__import__("rsml.layers.preprocess", fromlist=["MODES"]).MODES, "torch", ((9,) * 3, (9,) * 3))
    again = Preprocess.from_config(config)
    assert again.mean == pytest.approx([123.675, 116.28, 103.53, 114.495])
    assert again.scale == pytest.approx([58.395, 57.12, 57.375, 57.63])


def test_half_precision_rounds_after_scaling_not_before():
    layer = Preprocess("unit", dtype="mixed_bfloat16")
    pixels = np.array([254.6, 255.0], "float32").reshape(1, 1, 2, 1).repeat(3, -1)
    output = layer(pixels)
    assert output.dtype == "bfloat16"
    # In bfloat16 254.6 is 255 already; scaled first, 0.99843 rounds to 0.99609 or 1 within half a step of 2**-8.
    exact = np.float32(254.6) / 255
    assert abs(float(output[0, 0, 0, 0]) - exact) <= 2**-9


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_saves_and_loads(tmp_path, suffix):
    image = keras.Input((5, 7, 3), name="image")
    model = keras.Model(image, Preprocess("custom", mean=[1, 2, 3], scale=[4, 5, 6])(image))
    model.save(tmp_path / f"model.{suffix}")
    again = keras.models.load_model(tmp_path / f"model.{suffix}", compile=False)
    np.testing.assert_allclose(again(PIXELS), (PIXELS - np.array([1.0, 2, 3])) / [4.0, 5, 6], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "imagenet"}, "one of none, unit, tf"),
        ({"mode": "custom"}, "needs mean= and scale="),
        ({"mode": "tf", "bands": 4, "mean": [1, 2, 3]}, r"one number a band \(4\); got 3"),
        ({"mode": "custom", "mean": [0] * 3, "scale": [1, 0, 1]}, "must not hold 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        Preprocess(**arguments)


def test_wrong_number_of_bands_is_named():
    with pytest.raises(ValueError, match="made for 3 bands; the images have 4"):
        Preprocess("tf")(np.zeros((1, 2, 2, 4)))
