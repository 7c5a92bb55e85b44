import numpy as np
import pytest
from scipy.stats import entropy

from rsml.evaluation import (
    EvaluationError,
    bootstrap_intervals,
    headline_table,
    per_label_table,
    proportions_metrics,
    scalar_metrics,
    summary,
)

RANDOM = np.random.default_rng(0)
TRUE = RANDOM.dirichlet([0.5, 0.5, 0.5, 0.5], 200)
FOUND = 0.5 * TRUE + 0.5 * RANDOM.dirichlet(np.ones(4), 200)
NAMES = ("water", "forest", "bare", "snow")


def test_the_divergence_is_scipys():
    assert proportions_metrics(TRUE, FOUND)["kl_divergence"] == pytest.approx(entropy(TRUE, FOUND, axis=1).mean())
    # What is not there adds nothing, whatever is predicted for it.
    assert proportions_metrics([[1.0, 0.0]], [[0.5, 0.5]])["kl_divergence"] == pytest.approx(np.log(2))


def test_the_other_metrics_follow_their_formulas():
    found = proportions_metrics(TRUE, FOUND)
    assert found["dominant_accuracy"] == np.mean(TRUE.argmax(1) == FOUND.argmax(1))
    assert found["overlap"] == pytest.approx(np.minimum(TRUE, FOUND).sum(1).mean())
    assert found["mean_absolute_error"] == pytest.approx(np.abs(TRUE - FOUND).mean())
    np.testing.assert_allclose(found["per_label_absolute_error"], np.abs(TRUE - FOUND).mean(0))
    water = TRUE.argmax(1) == 0
    assert found["per_label_support"][0] == water.sum()
    assert found["per_label_dominant_recall"][0] == pytest.approx((FOUND.argmax(1) == 0)[water].mean())


def test_perfect_shares_leave_nothing_to_wish():
    found = scalar_metrics(TRUE, TRUE, "proportions")
    assert found["kl_divergence"] == pytest.approx(0, abs=1e-8) and found["overlap"] == pytest.approx(1)
    assert found["dominant_accuracy"] == 1 and found["mean_absolute_error"] == 0
    assert found["cross_entropy"] == pytest.approx(entropy(TRUE, axis=1).mean(), abs=1e-5)


def test_a_class_that_dominates_nowhere_has_no_recall():
    found = proportions_metrics([[0.9, 0.1], [0.8, 0.2]], [[0.9, 0.1], [0.1, 0.9]])
    assert found["per_label_dominant_recall"][0] == 0.5 and np.isnan(found["per_label_dominant_recall"][1])


def test_the_interval_of_a_mean_is_about_its_standard_error():
    found = bootstrap_intervals(TRUE, FOUND, ["kl_divergence"], resamples=2000)["kl_divergence"]
    deviation = entropy(TRUE, FOUND, axis=1).std(ddof=1) / np.sqrt(200)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * deviation, rel=0.1)


def test_the_summary_has_all_and_the_tables_say_it():
    evaluated = summary("proportions", NAMES, TRUE, FOUND, resamples=50)
    assert set(evaluated["intervals"]["metrics"]) >= {"kl_divergence", "dominant_accuracy", "overlap"}
    assert evaluated["per_label"][0]["share"] == pytest.approx(TRUE[:, 0].mean())
    head = headline_table(evaluated)
    assert f"{evaluated['metrics']['kl_divergence']:.2f} [" in head and "200 images, 4 classes" in head
    row = per_label_table(evaluated).splitlines()[2].split()
    assert row[:3] == ["water", str(evaluated["per_label"][0]["support"]), f"{100 * TRUE[:, 0].mean():.2f}"]


@pytest.mark.parametrize(
    ("labels", "scores", "said"),
    [
        ([[0.5, 0.4]], [[0.5, 0.5]], "image 0 sum to 0.9"),
        ([[1.5, -0.5]], [[0.5, 0.5]], "0 or more"),
        ([[1.0, 0.0]], [[0.5, 0.3, 0.2]], "do not fit"),
    ],
)
def test_what_are_no_shares_is_refused(labels, scores, said):
    with pytest.raises(EvaluationError, match=said):
        proportions_metrics(labels, scores)
