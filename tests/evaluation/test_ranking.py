"""Average precision and ranking measures image by image, against scikit-learn with sample weights."""

import numpy as np
import pytest
import sklearn.metrics as reference

from rsml.evaluation.ranking import average_precision, ranking_measures


@pytest.mark.parametrize("decimals", [1, 8])
def test_weighted_average_precision_agrees_with_scikit_learn(decimals):
    generator = np.random.default_rng(3)
    labels = generator.random((80, 4)) < 0.3
    scores = np.round(generator.random((80, 4)) + 0.2 * labels, decimals)
    weights = generator.integers(0, 4, size=(5, 80))
    ours = average_precision(labels, scores, weights)
    for row, weight in enumerate(weights):
        expected = reference.average_precision_score(labels, scores, average=None, sample_weight=weight)
        np.testing.assert_allclose(ours[row], expected, atol=1e-12)


def test_weights_mean_repetition():
    generator = np.random.default_rng(4)
    labels = generator.random((30, 3)) < 0.4
    scores = np.round(generator.random((30, 3)), 1)
    rows = generator.integers(30, size=30)
    weights = np.bincount(rows, minlength=30)[None]
    expected = average_precision(labels[rows], scores[rows])
    np.testing.assert_allclose(average_precision(labels, scores, weights)[0], expected, atol=1e-12)


def test_a_label_without_weight_is_undefined():
    labels = np.array([[1, 1], [0, 0]], bool)
    result = average_precision(labels, np.array([[0.2, 0.9], [0.3, 0.1]]), np.array([[0, 2], [1, 1]]))
    assert np.isnan(result[0]).all()
    np.testing.assert_allclose(result[1], [0.5, 1.0])


def test_average_precision_by_hand():
    # Ranked: hit, miss, hit, hit: (1/1 + 2/3 + 3/4) / 3; and infinite scores are scores too.
    labels = np.array([[1], [0], [1], [1]], bool)
    scores = np.array([[np.inf], [0.8], [0.7], [-np.inf]])
    assert average_precision(labels, scores)[0] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


@pytest.mark.parametrize("decimals", [1, 8])
def test_ranking_measures_agree_with_scikit_learn_on_every_image(decimals):
    generator = np.random.default_rng(5)
    labels = generator.random((40, 6)) < 0.4
    labels[0], labels[1] = False, True
    scores = np.round(generator.random((40, 6)), decimals)
    ours = ranking_measures(labels, scores)
    for row in range(40):
        one = labels[[row]].astype(int), scores[[row]]
        assert ours.ranking_loss[row] == pytest.approx(reference.label_ranking_loss(*one))
        assert ours.coverage[row] == pytest.approx(reference.coverage_error(*one))
        expected = reference.label_ranking_average_precision_score(*one)
        assert ours.label_ranking_average_precision[row] == pytest.approx(expected)


def test_one_error_is_the_share_of_images_whose_top_label_is_wrong():
    labels = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    scores = np.array([[0.2, 0.1, 0.9], [0.9, 0.1, 0.2], [0.9, 0.2, 0.1]])
    np.testing.assert_array_equal(ranking_measures(labels, scores).one_error, [0, 1, 0])
