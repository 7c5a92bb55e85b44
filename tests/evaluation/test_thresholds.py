"""Tuned thresholds against exhaustive search, and the rules that keep them tame."""

import numpy as np
import pytest
from sklearn.metrics import fbeta_score

from rsml.evaluation import multilabel_metrics, tune_thresholds
from rsml.utils.errors import UserError


def part(seed, images=40, labels=5, decimals=8):
    generator = np.random.default_rng(seed)
    truth = generator.random((images, labels)) < generator.uniform(0.2, 0.7, labels)
    scores = generator.beta(2, 4, (images, labels)) * 0.8 + 0.2 * truth
    return truth, np.round(scores, decimals)


def every_threshold(scores):
    distinct = np.unique(scores)
    return np.concatenate([[distinct[0] - 1], (distinct[1:] + distinct[:-1]) / 2, [distinct[-1] + 1], [0.5]])


@pytest.mark.parametrize("objective", ["f1", "f2"])
@pytest.mark.parametrize("decimals", [1, 8])
@pytest.mark.parametrize("seed", range(4))
def test_without_shrinkage_nothing_beats_them(seed, decimals, objective):
    labels, scores = part(seed, decimals=decimals)
    thresholds = tune_thresholds(labels, scores, objective, minimum_support=1, shrinkage=0)
    for label, threshold in enumerate(thresholds):

        def quality(at, column=label):
            beta = {"f1": 1, "f2": 2}[objective]
            return fbeta_score(labels[:, column], scores[:, column] > at, beta=beta, zero_division=0)

        best = max(quality(at) for at in every_threshold(scores[:, label]))
        assert quality(threshold) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_never_worse_than_one_half_on_the_images_they_were_tuned_on(seed):
    labels, scores = part(seed)
    before = multilabel_metrics(labels, scores)
    after = multilabel_metrics(labels, scores, tune_thresholds(labels, scores))
    assert (after["per_label_f1"] >= before["per_label_f1"]).all()
    assert after["macro_f1"] > before["macro_f1"]


def test_labels_that_never_or_always_occur_or_hardly_keep_one_half():
    generator = np.random.default_rng(0)
    labels = np.zeros((30, 4), bool)
    labels[:, 1] = True
    labels[:2, 2] = True
    labels[:28, 3] = True
    scores = 0.3 * generator.random((30, 4)) + 0.1 * labels
    np.testing.assert_array_equal(tune_thresholds(labels, scores), 0.5)
    bold = tune_thresholds(labels, scores, minimum_support=1, shrinkage=0)
    assert (bold[:2] == 0.5).all()
    assert (bold[2:] < 0.5).all()


def test_one_half_stays_where_it_is_as_good_as_any():
    labels = np.repeat([[True], [False]], 10, axis=0)
    scores = np.where(labels, 0.9, 0.3)
    assert tune_thresholds(labels, scores, shrinkage=0)[0] == 0.5


def test_the_midpoint_of_the_gap_and_its_shrinkage():
    labels = np.repeat([[True], [False]], 10, axis=0)
    scores = np.where(labels, 0.3, 0.1)
    assert tune_thresholds(labels, scores, shrinkage=0)[0] == pytest.approx(0.2)
    # Ten of each: weight 10 / (10 + 2.5). 0.26 still lies in the gap.
    assert tune_thresholds(labels, scores, shrinkage=2.5)[0] == pytest.approx(0.5 - 0.3 * 10 / 12.5)
    # Shrinkage that leaves the gap gains nothing over 0.5, which then stays.
    assert tune_thresholds(labels, scores, shrinkage=10)[0] == 0.5
    assert tune_thresholds(labels, 1 - np.where(labels, 0.1, 0.3), shrinkage=0)[0] == pytest.approx(0.8)


def test_neighbouring_floats_are_still_parted():
    low = 0.3
    high = np.nextafter(low, 1)
    labels = np.repeat([[True], [False]], 5, axis=0)
    threshold = tune_thresholds(labels, np.where(labels, high, low), shrinkage=0)
    assert multilabel_metrics(labels, np.where(labels, high, low), threshold)["micro_f1"] == 1


def test_equal_scores_and_absent_labels_are_harmless():
    labels = np.array([[True], [False]] * 5)
    assert np.isfinite(tune_thresholds(labels, np.full((10, 1), 0.2), shrinkage=0)).all()
    assert np.isfinite(tune_thresholds(labels, np.zeros((10, 1)), shrinkage=0)).all()


def test_the_order_of_images_does_not_matter():
    labels, scores = part(3, decimals=2)
    order = np.random.default_rng(1).permutation(len(labels))
    np.testing.assert_array_equal(tune_thresholds(labels, scores), tune_thresholds(labels[order], scores[order]))


def test_bad_options_are_one_line():
    labels, scores = part(0)
    with pytest.raises(UserError, match="unknown objective 'accuracy'"):
        tune_thresholds(labels, scores, "accuracy")
    with pytest.raises(UserError, match="shrinkage"):
        tune_thresholds(labels, scores, shrinkage=-1)
