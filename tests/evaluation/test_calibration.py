import numpy as np
import pytest
from scipy.special import expit, softmax

from rsml.evaluation.calibration import fit_calibration, reliability
from rsml.utils.errors import UserError


def drawn_logits(images=4000, labels=5, seed=0):
    return np.random.default_rng(seed).normal(0, 2, (images, labels))


def test_temperature_is_found_again():
    logits = drawn_logits()
    truth = np.random.default_rng(1).multinomial(1, softmax(logits, axis=1))
    found = fit_calibration(truth, softmax(3.0 * logits, axis=1), "softmax")
    assert found.scale[0] == pytest.approx(1 / 3, rel=0.05)
    assert set(found.bias) == {0.0}
    np.testing.assert_allclose(found.scores(softmax(3.0 * logits, axis=1)), softmax(logits, axis=1), atol=0.03)


def test_each_label_gets_its_scale_and_bias():
    logits = drawn_logits()
    truth = np.random.default_rng(1).random(logits.shape) < expit(logits)
    scale, bias = np.array([0.5, 1.0, 2.0, 3.0, 1.0]), np.array([0.0, 1.0, -1.0, 0.5, 0.0])
    found = fit_calibration(truth, expit((logits - bias) / scale), "sigmoid")
    np.testing.assert_allclose(found.scale, scale, rtol=0.12)
    np.testing.assert_allclose(found.bias, bias, atol=0.15)


def test_a_label_without_images_keeps_near_its_scores():
    truth = np.zeros((200, 1))
    scores = np.full((200, 1), 1e-3)
    found = fit_calibration(truth, scores, "sigmoid")
    assert 0.5 < found.scale[0] < 2.0 and -1.5 < found.bias[0] <= 0


def test_rankings_and_decisions_stay():
    random = np.random.default_rng(2)
    scores = random.random((300, 4)).astype("float32")
    truth = random.random((300, 4)) < scores**3
    found = fit_calibration(truth, scores, "sigmoid")
    moved, thresholds = found.scores(scores), found.thresholds([0.5, 0.3, 0.7, 0.5])
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(np.argsort(moved, axis=0), np.argsort(scores, axis=0))
    np.testing.assert_array_equal(moved > thresholds, scores > np.array([0.5, 0.3, 0.7, 0.5]))


def test_the_error_falls_on_images_that_were_not_fitted():
    logits = drawn_logits(6000)
    truth = np.random.default_rng(3).random(logits.shape) < expit(logits)
    sure = expit(4 * logits)
    found = fit_calibration(truth[:2000], sure[:2000], "sigmoid")
    before = reliability(truth[2000:], sure[2000:], "sigmoid", resamples=200)
    after = reliability(truth[2000:], found.scores(sure[2000:]), "sigmoid", resamples=200)
    assert after["ece"] < 0.02 < 0.1 < before["ece"]
    assert before["interval"][0] < before["ece"] < before["interval"][1]
    assert before["interval"][0] > after["interval"][1]


def test_the_error_is_that_of_its_definition():
    truth = np.array([[1, 0], [1, 0], [0, 1], [1, 0]])
    scores = np.array([[0.9, 0.1]] * 4)
    found = reliability(truth, scores, "softmax", resamples=0)
    assert found["ece"] == pytest.approx(0.15)
    assert found["bins"] == [{"score": pytest.approx(0.9), "share": pytest.approx(0.75), "decisions": 4}]
    both = reliability(truth, scores, "sigmoid", resamples=0)
    assert both["ece"] == pytest.approx((0.15 * 4 + 0.15 * 4) / 8)
    assert [one["decisions"] for one in both["bins"]] == [4, 4]


def test_too_few_images_are_counted():
    with pytest.raises(UserError, match="needs 100 validation images, found 40: 60 are missing"):
        fit_calibration(np.ones((40, 2)), np.full((40, 2), 0.5), "sigmoid")
