import keras
import numpy as np
import pytest
import tensorflow as tf

from rsml.losses import AsymmetricLoss, FocalLoss


def asymmetric(y, p, gamma_negative=4.0, gamma_positive=1.0, clip=0.05):
    shifted = np.maximum(p - clip, 0)
    with np.errstate(divide="ignore"):
        losses = -y * (1 - p) ** gamma_positive * np.log(p) - (1 - y) * shifted**gamma_negative * np.log(1 - shifted)
    return losses.mean(-1)


def focal(y, p, gamma=2.0, alpha=0.25):
    p_t = np.where(y == 1, p, 1 - p)
    alpha_t = 1.0 if alpha is None else np.where(y == 1, alpha, 1 - alpha)
    return (-alpha_t * (1 - p_t) ** gamma * np.log(p_t)).mean(-1)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


CASES = [
    (AsymmetricLoss, asymmetric, {}),
    (AsymmetricLoss, asymmetric, {"gamma_negative": 0.5, "gamma_positive": 0.0, "clip": 0.2}),
    (AsymmetricLoss, asymmetric, {"gamma_negative": 3.0, "gamma_positive": 0.5, "clip": 0.0}),
    (FocalLoss, focal, {}),
    (FocalLoss, focal, {"gamma": 0.5, "alpha": None}),
    (FocalLoss, focal, {"gamma": 0.0, "alpha": 0.7}),
]


@pytest.fixture
def case():
    random = np.random.default_rng(0)
    return (random.random((9, 6)) < 0.3).astype("float32"), random.normal(size=(9, 6)) * 3


@pytest.mark.parametrize("loss, formula, options", CASES)
@pytest.mark.parametrize("from_logits", [False, True])
def test_equals_the_formula(case, loss, formula, options, from_logits):
    labels, logits = case
    found = loss(**options, from_logits=from_logits, reduction=None)(labels, logits if from_logits else sigmoid(logits))
    np.testing.assert_allclose(found, formula(labels, sigmoid(logits), **options), rtol=2e-5)


@pytest.mark.parametrize("loss, formula, options", CASES)
@pytest.mark.parametrize("from_logits", [False, True])
def test_gradient_is_the_slope(value_and_gradient, numeric_gradient, case, loss, formula, options, from_logits):
    labels, logits = case
    loss = loss(**options, from_logits=from_logits, dtype="float64")
    if from_logits:
        _, gradient = value_and_gradient(loss, labels, logits, "float64")
        expected = numeric_gradient(lambda z: formula(labels, sigmoid(z), **options).mean(), logits)
    else:
        _, gradient = value_and_gradient(loss, labels, sigmoid(logits), "float64")
        expected = numeric_gradient(lambda p: formula(labels, p, **options).mean(), sigmoid(logits))
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


def test_without_focusing_both_are_binary_cross_entropy(case):
    labels, logits = case
    expected = keras.losses.BinaryCrossentropy(from_logits=True)(labels, logits)
    np.testing.assert_allclose(AsymmetricLoss(0, 0, 0, from_logits=True)(labels, logits), expected, rtol=1e-6)
    np.testing.assert_allclose(FocalLoss(0, None, from_logits=True)(labels, logits), expected, rtol=1e-6)


def test_absent_labels_below_the_clip_cost_nothing(value_and_gradient):
    value, gradient = value_and_gradient(AsymmetricLoss(), np.zeros((1, 3)), [[0.0, 0.03, 0.0499]])
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize("loss, formula, options", CASES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_finite_at_the_ends(value_and_gradient, loss, formula, options, dtype, label):
    ends = {True: [[-6e4, -20.0, 0.0, 20.0, 6e4]], False: [[0.0, 1e-3, 0.5, 0.999, 1.0]]}
    for from_logits, predictions in ends.items():
        labels = np.full((1, 5), label)
        value, gradient = value_and_gradient(loss(**options, from_logits=from_logits), labels, predictions, dtype)
        assert np.isfinite(value)
        assert np.isfinite(gradient.astype("float32")).all()
        assert value >= 0


def test_a_label_missed_with_certainty_still_teaches(value_and_gradient):
    for loss in (FocalLoss(alpha=None, from_logits=True), AsymmetricLoss(from_logits=True)):
        _, gradient = value_and_gradient(loss, [[1.0]], [[-100.0]])
        np.testing.assert_allclose(gradient, [[-1.0]], rtol=1e-5)


def test_half_precision_is_computed_in_single(case):
    labels, logits = case
    half = tf.constant(logits, "float16")
    for loss in (FocalLoss(from_logits=True), AsymmetricLoss(from_logits=True)):
        np.testing.assert_allclose(loss(labels, half), loss(labels, tf.cast(half, "float32")), rtol=1e-6)


def test_sample_weights_multiply_images(case):
    labels, logits = case
    weights = np.linspace(0, 2, 9)
    found = AsymmetricLoss(from_logits=True)(labels, logits, sample_weight=weights)
    np.testing.assert_allclose(found, (weights * asymmetric(labels, sigmoid(logits))).mean(), rtol=1e-5)


@pytest.mark.parametrize("loss", [AsymmetricLoss(3.0, 0.5, 0.1, True, "sum"), FocalLoss(1.5, None, True, None)])
def test_round_trip(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


def test_wrong_arguments_say_what_they_should_be():
    with pytest.raises(ValueError, match="gamma_negative must be at least 0, found -1"):
        AsymmetricLoss(gamma_negative=-1)
    with pytest.raises(ValueError, match="alpha must be from 0 to 1, found 2"):
        FocalLoss(alpha=2)
