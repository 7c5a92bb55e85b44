"""What every layer and every loss must be able to do, in the manner of keras-hub's `run_layer_test`."""

import json

import keras
import numpy as np
import tensorflow as tf


def check_layer(layer, inputs, path, resting=()):
    """Builds the layer, calls it on symbols and numbers, saves and loads it, trains it a step, and mixes precisions.

    `resting` names weights whose gradient may be zero.
    """
    keras.utils.set_random_seed(0)
    fresh = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    symbol = keras.Input(inputs.shape[1:])
    model = keras.Model(symbol, layer(symbol))
    outputs = model(inputs).numpy()
    assert np.isfinite(outputs).all()
    assert model.output_shape == (None, *outputs.shape[1:])
    assert layer.compute_output_shape((None, *inputs.shape[1:])) == model.output_shape

    weights = [weight.path for weight in layer.weights]
    assert len(set(weights)) == len(weights)
    fresh.build((None, *inputs.shape[1:]))
    assert [weight.shape for weight in fresh.weights] == [weight.shape for weight in layer.weights]
    for suffix in (".keras", ".h5"):
        file = path / f"model{suffix}"
        model.save(file)
        loaded = keras.models.load_model(file)
        np.testing.assert_allclose(loaded(inputs), outputs, rtol=1e-6, atol=1e-6)
        assert loaded.layers[-1].get_config() == layer.get_config()

    if layer.trainable_weights:
        _check_training(model, layer, inputs, outputs, resting)
    _check_half_precision(layer, inputs)


def check_loss(loss, labels, predictions, path):
    """Config round trip, values a sample and their sum, gradient, half precision, symbolic shapes, a saved model."""
    labels, predictions = np.asarray(labels, "float32"), np.asarray(predictions, "float32")
    again = keras.losses.deserialize(json.loads(json.dumps(keras.losses.serialize(loss))))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
    assert keras.saving.get_registered_name(type(loss)).startswith("rsml>")
    value = float(loss(labels, predictions))
    assert value == float(again(labels, predictions)) and np.isfinite(value)
    each, total = (
        type(loss).from_config({**loss.get_config(), "reduction": reduction})(labels, predictions)
        for reduction in (None, "sum")
    )
    # One value a list: a sample's, or a label's where the samples are ranked under each label.
    assert each.shape in [(side,) for side in labels.shape]
    np.testing.assert_allclose(np.sum(each), total, rtol=1e-5)

    variable = tf.Variable(predictions)
    with tf.GradientTape() as tape:
        found = loss(labels, variable)
    gradient = tape.gradient(found, variable).numpy()
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    half = loss(labels.astype("float16"), predictions.astype("float16"))
    assert keras.backend.standardize_dtype(half.dtype) == "float32"
    np.testing.assert_allclose(half, value, rtol=5e-2, atol=5e-2)

    compiled = tf.function(loss, input_signature=[tf.TensorSpec((None, a.shape[1])) for a in (labels, predictions)])
    np.testing.assert_allclose(compiled(labels, predictions), value, rtol=1e-5)
    symbol = keras.Input(predictions.shape[1:])
    model = keras.Model(symbol, keras.layers.Dense(predictions.shape[1])(symbol))
    model.compile("sgd", loss, jit_compile=False)
    model.train_on_batch(predictions, labels)
    model.save(path / "model.keras")
    assert keras.models.load_model(path / "model.keras").loss.get_config() == loss.get_config()


def _check_training(model, layer, inputs, outputs, resting):
    before = [weight.numpy() for weight in layer.trainable_weights]
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    loss = model.train_on_batch(inputs, outputs + np.random.default_rng(0).normal(size=outputs.shape))
    assert np.isfinite(loss)
    for weight, old in zip(layer.trainable_weights, before, strict=True):
        assert np.isfinite(weight.numpy()).all()
        learns = np.abs(weight.numpy() - old).max() > 0
        assert learns or weight.name in resting, f"{weight.path} does not learn"


def _check_half_precision(layer, inputs):
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        mixed = type(layer).from_config({**layer.get_config(), "dtype": "mixed_float16"})
        half = mixed(inputs)
        mixed.set_weights(layer.get_weights())
        half, single = mixed(inputs), layer(inputs).numpy()
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    assert all(weight.dtype == "float32" for weight in mixed.weights)
    np.testing.assert_allclose(half.numpy().astype("float32"), single, rtol=2e-2, atol=2e-2 * np.abs(single).max())
