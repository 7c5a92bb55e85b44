"""Intervals against repetition, binomial theory and coverage; paired tests against McNemar and under the null."""

import numpy as np
import pytest
from scipy import stats

from rsml.evaluation import (
    bootstrap_interval,
    bootstrap_intervals,
    format_interval,
    multilabel_metrics,
    paired_test,
    singlelabel_metrics,
)
from rsml.evaluation.metrics import MULTILABEL, SINGLELABEL
from rsml.utils.errors import UserError


def multilabel_part(seed=0, images=50, labels=4):
    generator = np.random.default_rng(seed)
    truth = (generator.random((images, labels)) < 0.3).astype(int)
    return truth, np.round(generator.random((images, labels)) * 0.7 + 0.3 * truth, 2)


def singlelabel_part(seed=0, images=60, classes=7):
    generator = np.random.default_rng(seed)
    truth = generator.integers(classes, size=images)
    return truth, generator.random((images, classes)) + 0.5 * np.eye(classes)[truth]


def drawn_rows(images, resamples, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(images, size=images) for _ in range(resamples)]


def test_every_multilabel_metric_equals_its_recomputation_on_every_resample():
    labels, scores = multilabel_part()
    thresholds = [0.4, 0.5, 0.6, 0.45]
    intervals = bootstrap_intervals(labels, scores, list(MULTILABEL), threshold=thresholds, resamples=8)
    for number, rows in enumerate(drawn_rows(50, 8)):
        expected = multilabel_metrics(labels[rows], scores[rows], thresholds)
        for name, interval in intervals.items():
            atol = 1e-6 if name.startswith("r4c_code") else 1e-12
            np.testing.assert_allclose(interval.samples[number], expected[name], atol=atol, err_msg=name)
    whole = multilabel_metrics(labels, scores, thresholds)
    for name, interval in intervals.items():
        np.testing.assert_array_equal(interval.value, whole[name], err_msg=name)


def test_every_single_label_metric_equals_its_recomputation_on_every_resample():
    labels, scores = singlelabel_part()
    names = [name for name in SINGLELABEL if name != "confusion_matrix"]
    intervals = bootstrap_intervals(labels, scores, names, task="single-label", resamples=8)
    for number, rows in enumerate(drawn_rows(60, 8)):
        expected = singlelabel_metrics(labels[rows], scores[rows])
        for name, interval in intervals.items():
            np.testing.assert_allclose(interval.samples[number], expected[name], atol=1e-12, err_msg=name)


def test_a_function_is_resampled_like_a_name():
    labels, scores = multilabel_part()

    def micro_f1(truth, values):
        return multilabel_metrics(truth, values)["micro_f1"]

    named = bootstrap_interval(labels, scores, "micro_f1", resamples=30, seed=4)
    called = bootstrap_interval(labels, scores, micro_f1, resamples=30, seed=4)
    np.testing.assert_allclose(np.sort(called.samples), np.sort(named.samples), atol=1e-12)
    assert (called.low, called.high) == pytest.approx((named.low, named.high))


@pytest.mark.parametrize(("images", "right"), [(420, 392), (200, 100), (1000, 870)])
def test_the_interval_of_accuracy_is_the_binomial_one(images, right):
    truth = np.zeros(images, int)
    scores = np.tile([1.0, 0.0], (images, 1))
    scores[right:] = [0.0, 1.0]
    interval = bootstrap_interval(truth, scores, "accuracy", resamples=4000)
    # The resampled count of right images is Binomial(images, right / images).
    low, high = stats.binom.ppf([0.025, 0.975], images, right / images) / images
    assert interval.value == pytest.approx(right / images)
    assert interval.low == pytest.approx(low, abs=1.5 / images)
    assert interval.high == pytest.approx(high, abs=1.5 / images)
    deviation = np.sqrt(right / images * (1 - right / images) / images)
    assert interval.samples.std() == pytest.approx(deviation, rel=0.05)


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        right = generator.random(150) < 0.8
        scores = np.where(right[:, None], [1.0, 0.0], [0.0, 1.0])
        interval = bootstrap_interval(np.zeros(150, int), scores, "accuracy", resamples=300, seed=trial, level=0.9)
        covered += interval.low <= 0.8 <= interval.high
    # 90 % of 300, with four standard deviations for chance and the percentile method's known small shortfall.
    assert 0.82 <= covered / 300 <= 0.97


def test_more_images_narrow_the_interval_and_a_higher_level_widens_it():
    labels, scores = multilabel_part(images=100)
    small = bootstrap_interval(labels, scores, "example_f1")
    large = bootstrap_interval(np.tile(labels, (4, 1)), np.tile(scores, (4, 1)), "example_f1")
    wide = bootstrap_interval(labels, scores, "example_f1", level=0.99)
    assert (large.high - large.low) / (small.high - small.low) == pytest.approx(0.5, abs=0.08)
    assert wide.low < small.low < small.value < small.high < wide.high


def test_blocks_and_seeds(monkeypatch):
    labels, scores = multilabel_part()
    whole = bootstrap_interval(labels, scores, "map_over_seen_labels", resamples=20, seed=1)
    monkeypatch.setattr("rsml.evaluation.bootstrap._BLOCK", 150)
    blocks = bootstrap_interval(labels, scores, "map_over_seen_labels", resamples=20, seed=1)
    np.testing.assert_allclose(blocks.samples, whole.samples, atol=1e-14)
    other = bootstrap_interval(labels, scores, "map_over_seen_labels", resamples=20, seed=2)
    assert (other.samples != whole.samples).all()


def test_labels_that_resamples_miss():
    labels, scores = np.zeros((12, 2), int), np.random.default_rng(0).random((12, 2))
    labels[0, 0] = 1
    intervals = bootstrap_intervals(labels, scores, ["per_label_ap", "map_over_seen_labels"], resamples=200)
    assert np.isnan(intervals["per_label_ap"].low[1])
    # One resample in three lacks the one image of the first label, and gets it back.
    assert np.isfinite(intervals["per_label_ap"].samples[:, 0]).all()
    np.testing.assert_array_equal(intervals["map_over_seen_labels"].samples, intervals["per_label_ap"].samples[:, 0])
    support = bootstrap_intervals(labels, scores, ["per_label_support"], resamples=200)["per_label_support"].samples
    assert support[:, 0].min() == 1 and (support[:, 0] == 1).mean() == pytest.approx(0.74, abs=0.1)


def test_the_interval_of_average_precision_is_moved_by_twice_its_bias():
    generator = np.random.default_rng(0)
    labels = generator.random((60, 3)) < 0.2
    scores = generator.random((60, 3)) + 0.4 * labels
    found = bootstrap_interval(labels, scores, "map_over_seen_labels", resamples=400)
    bias = found.samples.mean() - found.value
    assert bias > 0.005
    expected = np.percentile(found.samples, [2.5, 97.5]) - 2 * bias
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_task_follows_from_labels_and_name():
    labels, scores = singlelabel_part()
    one_hot = np.eye(7, dtype=int)[labels]
    by_shape = bootstrap_interval(labels, scores, "macro_f1", resamples=5)
    told = bootstrap_interval(one_hot, scores, "macro_f1", resamples=5, task="single-label")
    by_name = bootstrap_interval(one_hot, scores, "accuracy", resamples=5)
    assert by_shape.value == told.value == singlelabel_metrics(labels, scores)["macro_f1"]
    assert by_name.value == singlelabel_metrics(labels, scores)["accuracy"]
    table = bootstrap_interval(one_hot, scores, "macro_f1", resamples=5)
    assert table.value == multilabel_metrics(one_hot, scores)["macro_f1"]


def test_format():
    assert format_interval(0.93125, 0.918, 0.9421) == "93.1 [91.8, 94.2]"
    assert format_interval(0.93125, 0.918, 0.9421, decimals=2) == "93.12 [91.80, 94.21]"
    assert format_interval(2.5, 2.25, float("nan"), scale=1) == "2.5 [2.2, -]"
    labels, scores = multilabel_part()
    interval = bootstrap_interval(labels, scores, "micro_f1", resamples=50)
    assert str(interval) == format_interval(interval.value, interval.low, interval.high)


def test_paired_differences_come_from_the_same_images():
    labels, a = multilabel_part(0)
    b = np.clip(a + np.random.default_rng(1).normal(0, 0.2, a.shape), 0, 1)
    result = paired_test("example_f1", labels, a, b, threshold_b=0.4, resamples=20)
    for number, rows in enumerate(drawn_rows(50, 20)):
        expected = (
            multilabel_metrics(labels[rows], a[rows])["example_f1"]
            - multilabel_metrics(labels[rows], b[rows], 0.4)["example_f1"]
        )
        assert result.difference.samples[number] == pytest.approx(expected, abs=1e-12)
    assert result.mcnemar_p is None
    assert result.difference.value == pytest.approx(result.value_a - result.value_b)


def test_a_model_does_not_differ_from_itself_and_swapping_turns_the_sign():
    labels, a = singlelabel_part(0)
    same = paired_test("kappa", labels, a, a, resamples=100)
    assert (same.difference.value, same.p_value, same.mcnemar_p) == (0, 1, 1)
    b = a + np.random.default_rng(0).normal(0, 0.3, a.shape)
    forward = paired_test("accuracy", labels, a, b, resamples=200)
    back = paired_test("accuracy", labels, b, a, resamples=200)
    assert forward.difference.value == -back.difference.value
    assert forward.p_value == back.p_value
    assert (forward.only_a_right, forward.only_b_right) == (back.only_b_right, back.only_a_right)


def test_mcnemar_by_hand():
    # Nine images that a alone gets right, one that b alone gets right: 2 * (1 + 10) / 2^10.
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    a = np.array([right] * 9 + [wrong] + [right] * 10)
    b = np.array([wrong] * 9 + [right] + [right] * 10)
    result = paired_test("accuracy", np.zeros(20, int), a, b)
    assert (result.only_a_right, result.only_b_right) == (9, 1)
    assert result.mcnemar_p == pytest.approx(22 / 1024)
    assert 0.001 < result.p_value < 0.05
    assert "right alone 9 : 1, McNemar p = 0.021" in str(result)
    assert str(result).startswith("accuracy: 95.00 against 55.00, difference +40.00 [")


def test_a_clear_difference_is_found():
    labels, scores = multilabel_part(images=200)
    noise = np.random.default_rng(0).random(scores.shape)
    result = paired_test("map_over_seen_labels", labels, scores, noise)
    assert result.p_value < 0.002
    assert result.difference.low > 0
    assert "p < 0.001" in str(result) or "p = 0.001" in str(result)


def test_p_values_under_the_null_are_about_uniform():
    generator = np.random.default_rng(0)
    p_values = []
    for trial in range(200):
        truth = generator.integers(2, size=(120, 5))
        signal = truth + generator.normal(0, 1, truth.shape)
        a, b = (signal + generator.normal(0, 1, truth.shape) for _ in range(2))
        p_values.append(paired_test("map_over_seen_labels", truth, a, b, resamples=199, seed=trial).p_value)
    p_values = np.array(p_values)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert 0.01 <= (p_values < 0.05).mean() <= 0.11
    assert p_values.mean() == pytest.approx(0.5, abs=0.08)


def test_bad_input_is_one_line():
    labels, scores = multilabel_part()
    with pytest.raises(UserError, match=r"unknown metric 'f1' .*example_f1"):
        bootstrap_interval(labels, scores, "f1")
    with pytest.raises(UserError, match="unknown metric 'micro_f1' of a single-label part"):
        bootstrap_interval(labels, scores, "micro_f1", task="single-label")
    with pytest.raises(UserError, match="unknown task"):
        bootstrap_interval(labels, scores, "micro_f1", task="both")
    with pytest.raises(UserError, match="resamples must be at least 1"):
        bootstrap_interval(labels, scores, "micro_f1", resamples=0)
    with pytest.raises(UserError, match="same images"):
        paired_test("micro_f1", labels, scores, scores[:-1])
    with pytest.raises(UserError, match="one per label"):
        paired_test("per_label_f1", labels, scores, scores)
    with pytest.raises(UserError, match="do not fit"):
        bootstrap_interval(labels[:-1], scores, lambda truth, values: 0.0)
