import keras
import numpy as np
import pytest
import tensorflow as tf

from rsml.losses import ImprovedCrossEntropy

# Keras rounds what a loss returns to the loss's dtype.
ROUNDING = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 1e-6, "float64": 1e-6}


def formula(target, p, epsilon=1e-7):
    """The method sheet's formula in float64."""
    p = np.clip(np.asarray(p, np.float64), epsilon, 1 - epsilon)
    return -(target * np.log(p)).sum(-1) + p.max(-1) - (target * p).sum(-1)


def softmax(logits):
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.fixture
def case():
    random = np.random.default_rng(0)
    logits = random.normal(size=(32, 7)) * 3
    classes = random.integers(0, 7, 32)
    return classes, np.eye(7)[classes], logits, softmax(logits)


@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("sparse", ["(batch,)", "(batch, 1)", "one-hot"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_the_formula(case, from_logits, sparse, smoothing):
    classes, one_hot, logits, p = case
    labels = {"(batch,)": classes, "(batch, 1)": classes[:, None], "one-hot": one_hot}[sparse]
    loss = ImprovedCrossEntropy(from_logits, label_smoothing=smoothing, reduction=None)
    target = one_hot * (1 - smoothing) + smoothing / 7
    np.testing.assert_allclose(loss(labels, logits if from_logits else p), formula(target, p), rtol=1e-6, atol=1e-6)


def test_float64_inputs_stay_float64(case):
    classes, one_hot, logits, p = case
    for from_logits, predictions in ((False, p), (True, logits)):
        found = ImprovedCrossEntropy(from_logits, reduction=None, dtype="float64")(classes, predictions)
        np.testing.assert_allclose(found, formula(one_hot, p), rtol=1e-12)


def test_penalty_vanishes_when_the_top_class_is_right():
    p = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]])
    found = ImprovedCrossEntropy(reduction=None)([0, 0], p)
    np.testing.assert_allclose(found, [-np.log(0.7), -np.log(0.2) + 0.5], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("label", [0, 1])
def test_zero_and_one_are_finite(value_and_gradient, label, dtype):
    p = np.array([[1.0, 0.0, 0.0]])
    value, gradient = value_and_gradient(ImprovedCrossEntropy(dtype=dtype), [label], p, dtype)
    np.testing.assert_allclose(value, formula(np.eye(3)[[label]], p)[0], rtol=ROUNDING[dtype], atol=1e-6)
    assert np.isfinite(gradient.astype("float64")).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_saturated_logits_are_finite_and_still_teach(value_and_gradient, dtype):
    value, gradient = value_and_gradient(ImprovedCrossEntropy(from_logits=True), [1], [[3e4, -3e4, 0.0]], dtype)
    assert value == pytest.approx(-np.log(1e-7) + 1 - 2e-7, rel=1e-6)
    np.testing.assert_allclose(gradient.astype("float32"), [[1, -1, 0]], atol=1e-3)


def test_logits_agree_with_the_authors_clip_however_sure_the_model_is():
    logits = np.array([[40.0, 0.0, -5.0], [0.0, 17.0, 0.0], [-60.0, 60.0, 0.0], [1.0, 2.0, 3.0]])
    clipped = np.clip(softmax(logits), 1e-7, 1 - 1e-7)
    for label in range(3):
        expected = clipped.max(axis=1) - clipped[:, label] - np.log(clipped[:, label])
        found = ImprovedCrossEntropy(from_logits=True, reduction=None)([label] * 4, logits.astype("float32"))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("dtype", [None, "half"])
@pytest.mark.parametrize("from_logits", [False, True])
def test_half_precision_is_computed_in_single(case, half, dtype, from_logits):
    classes, one_hot, logits, p = case
    rounded = tf.constant(logits if from_logits else p, half)
    seen = rounded.numpy().astype("float64")
    loss = ImprovedCrossEntropy(from_logits, reduction=None, dtype=half if dtype else None)
    expected = formula(one_hot, softmax(seen) if from_logits else seen)
    np.testing.assert_allclose(loss(classes, rounded), expected, ROUNDING[half if dtype else "float32"])


@pytest.mark.parametrize("from_logits", [False, True])
def test_gradient_is_the_slope(value_and_gradient, numeric_gradient, case, from_logits):
    classes, one_hot, logits, _ = (part[:6] for part in case)
    logits = logits / 3  # finite differences of log p need p well away from 0
    p = softmax(logits)
    loss = ImprovedCrossEntropy(from_logits, label_smoothing=0.1, reduction="sum", dtype="float64")
    target = one_hot * 0.9 + 0.1 / 7
    _, gradient = value_and_gradient(loss, classes, logits if from_logits else p, "float64")
    if from_logits:
        expected = numeric_gradient(lambda z: formula(target, softmax(z)).sum(), logits)
    else:
        expected = numeric_gradient(lambda q: formula(target, q).sum(), p)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


def test_sample_weights(case):
    classes, one_hot, _, p = case
    weights = np.linspace(0, 2, 32)
    found = ImprovedCrossEntropy()(classes, p, sample_weight=weights)
    np.testing.assert_allclose(found, (weights * formula(one_hot, p)).mean(), rtol=1e-6)


def test_maps_of_pixels_have_a_value_and_a_weight_each(case):
    classes, one_hot, _, p = case
    weights = np.linspace(0, 2, 32).reshape(2, 4, 4)
    arguments = (classes.reshape(2, 4, 4), p.reshape(2, 4, 4, 7))
    expected = formula(one_hot, p).reshape(2, 4, 4)
    np.testing.assert_allclose(ImprovedCrossEntropy(reduction=None)(*arguments), expected, rtol=1e-6)
    found = ImprovedCrossEntropy(reduction="sum")(*arguments, sample_weight=weights)
    np.testing.assert_allclose(found, (weights * expected).sum(), rtol=1e-6)


def test_trains_with_class_numbers(case):
    classes, _, logits, _ = case
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(7, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.1), ImprovedCrossEntropy(), jit_compile=False)
    losses = model.fit(logits, classes, batch_size=16, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_round_trip():
    loss = ImprovedCrossEntropy(True, 0.1, 1e-5, "sum", "mine")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert keras.saving.get_registered_name(ImprovedCrossEntropy) == "rsml>ImprovedCrossEntropy"


def test_wrong_shapes_and_arguments_are_named():
    with pytest.raises(ValueError, match=r"targets of shape \(2, 4\) do not fit predictions of shape \(2, 3\)"):
        ImprovedCrossEntropy()(np.zeros((2, 4)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="label_smoothing must be from 0 to 1, found -1"):
        ImprovedCrossEntropy(label_smoothing=-1)
