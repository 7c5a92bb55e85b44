"""The last layer: exact probabilities, and a config that carries what the numbers mean."""

import keras
import numpy as np
import pytest

from rsml.layers import ScenePredictions
from rsml.layers.scene_predictions import predictions_layer

LOGITS = np.array([[0.0, 2.0, -3.0], [40.0, -40.0, 1.0]], "float32")
EXPERIMENT = {"class_name": "Dense", "config": {"units": 3}, "rates": [1e-3, None], "name": "Zürich"}


def test_multi_label_is_the_logistic_function():
    output = ScenePredictions(["a", "b", "c"])(LOGITS).numpy()
    np.testing.assert_allclose(output, 1 / (1 + np.exp(-LOGITS.astype("float64"))), rtol=1e-6)


def test_single_label_is_softmax():
    output = ScenePredictions(["a", "b", "c"], task="single-label")(LOGITS).numpy()
    powers = np.exp(LOGITS.astype("float64") - LOGITS.max(1, keepdims=True))
    np.testing.assert_allclose(output, powers / powers.sum(1, keepdims=True), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("task", ["multi-label", "single-label"])
def test_float32_under_mixed_precision(task):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        features = keras.Input((4,))
        logits = keras.layers.Dense(3)(features)
        model = keras.Model(features, ScenePredictions(["a", "b", "c"], task)(logits))
    finally:
        keras.config.set_dtype_policy("float32")
    values = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    output = model(values)
    assert logits.dtype == "bfloat16"
    assert output.dtype == "float32"
    half = keras.Model(features, logits)(values)
    wide = keras.ops.cast(half, "float32")
    expected = keras.ops.sigmoid(wide) if task == "multi-label" else keras.ops.softmax(wide)
    np.testing.assert_allclose(output, expected, rtol=1e-6)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_everything_it_carries_survives_saving(tmp_path, suffix):
    logits = keras.Input((3,))
    layer = ScenePredictions(
        ["bare soil", "b", "c"], thresholds=[0.1, 0.5, 0.9], experiment=EXPERIMENT, metadata={"bands": [4, 3, 2]}
    )
    model = keras.Model(logits, layer(logits))
    layer.thresholds = [0.2, 0.5, 0.9]
    model.save(tmp_path / f"model.{suffix}")
    again = predictions_layer(keras.models.load_model(tmp_path / f"model.{suffix}", compile=False))
    assert again.labels == ("bare soil", "b", "c")
    assert again.task == "multi-label"
    assert again.thresholds == (0.2, 0.5, 0.9)
    assert again.experiment == EXPERIMENT
    assert again.metadata == {"bands": [4, 3, 2]}


def test_predictions_layer_is_found_inside_a_nested_model_and_missed_where_there_is_none():
    logits = keras.Input((2,))
    inner = keras.Model(logits, ScenePredictions(["a", "b"], name="inner_predictions")(logits))
    outer_input = keras.Input((2,))
    assert predictions_layer(keras.Model(outer_input, inner(outer_input))).name == "inner_predictions"
    assert predictions_layer(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"labels": []}, "at least one"),
        ({"labels": ["a", "a"]}, "distinct"),
        ({"labels": "abc"}, "list of names"),
        ({"labels": ["a", "b"], "task": "regression"}, "multi-label"),
        ({"labels": ["a", "b"], "thresholds": [0.5]}, "2 labels but 1 thresholds"),
        ({"labels": ["a", "b"], "thresholds": [0.5, 1.5]}, "between 0 and 1"),
        ({"labels": ["a", "b"], "experiment": {"x": object()}}, "JSON"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        ScenePredictions(**arguments)


def test_number_of_logits_must_be_the_number_of_labels():
    with pytest.raises(ValueError, match="2 labels but 3 logits"):
        ScenePredictions(["a", "b"])(LOGITS)
