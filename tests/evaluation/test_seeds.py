import numpy as np
import pytest

from rsml.evaluation import EvaluationError, paired_seeds_test, paired_test


def scores_with(right: np.ndarray, classes: np.ndarray, seed: int = 0) -> np.ndarray:
    """Scores of 4 classes that are right just where `right` says so."""
    called = np.where(right, classes, (classes + 1) % 4)
    noise = np.random.default_rng(seed).uniform(0, 0.2, (len(classes), 4))
    return noise + (np.arange(4) == called[:, None])


@pytest.fixture
def classes():
    return np.random.default_rng(3).integers(4, size=300)


def test_one_pair_is_the_paired_test(classes):
    random = np.random.default_rng(0)
    a, b = (scores_with(random.uniform(size=300) < share, classes) for share in (0.9, 0.8))
    several = paired_seeds_test("accuracy", classes, [a], [b], resamples=500)
    single = paired_test("accuracy", classes, a, b, resamples=500)
    assert several.p_value == single.p_value
    assert several.difference.value == pytest.approx(single.value_a - single.value_b)
    np.testing.assert_allclose(several.difference.samples, single.difference.samples)
    assert np.isnan(several.deviation)


def test_values_are_means_and_the_deviation_is_that_of_the_pairs(classes):
    shares = [(0.9, 0.8), (0.92, 0.85), (0.88, 0.86)]
    rows = np.arange(300)
    a = [scores_with(rows < 300 * share, classes) for share, _ in shares]
    b = [scores_with(rows < 300 * share, classes) for _, share in shares]
    found = paired_seeds_test("accuracy", classes, a, b, resamples=400)
    assert found.a.value == pytest.approx(0.9) and found.b.value == pytest.approx(np.mean([0.8, 0.85, 0.86]), abs=1e-6)
    assert found.deviation == pytest.approx(np.std([0.1, 0.07, 0.02], ddof=1), abs=1e-9)
    assert found.difference.low < found.difference.value < found.difference.high


def test_seeds_widen_the_interval_that_images_alone_would_give(classes):
    """Three pairs whose differences are +0.2, 0 and -0.2: their mean is 0, and only the draw of pairs shows doubt."""
    rows = np.arange(300)
    good, bad = scores_with(rows < 270, classes), scores_with(rows < 210, classes)
    found = paired_seeds_test("accuracy", classes, [good, bad, bad], [bad, bad, good], resamples=2000)
    assert found.difference.value == pytest.approx(0, abs=1e-9)
    # Two-level bootstrap of {+.2, 0, -.2}: standard deviation of the mean of 3 draws is .163 / sqrt(3) = .094.
    assert np.std(found.difference.samples) == pytest.approx(0.094, abs=0.02)
    assert found.p_value > 0.5


def test_equal_models_do_not_differ(classes):
    scores = [scores_with(np.arange(300) % 5 > 0, classes, seed) for seed in range(3)]
    found = paired_seeds_test("macro_f1", classes, scores, scores, resamples=200)
    assert found.p_value == 1.0 and found.difference.value == 0.0
    assert found.difference.low == found.difference.high == 0.0


def test_sides_of_different_number_are_refused(classes):
    scores = scores_with(classes > 0, classes)
    with pytest.raises(EvaluationError, match=r"2 against 1"):
        paired_seeds_test("accuracy", classes, [scores, scores], [scores])
