"""Metrics against the golden arrays, scikit-learn, hand-computed cases and their own symmetries."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as reference

from rsml.evaluation import multilabel_metrics, singlelabel_metrics
from rsml.utils.errors import UserError

GOLDEN = sorted((Path(__file__).parents[1] / "data").glob("metrics_*.npz"))


def random_part(seed, images=60, labels=7, ties=False, share=0.3):
    generator = np.random.default_rng(seed)
    truth = generator.random((images, labels)) < share
    scores = generator.random((images, labels)) * 0.7 + 0.3 * truth
    return truth.astype(np.uint8), np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_values_under_golden_names(path):
    golden = np.load(path)
    ours = multilabel_metrics(golden["labels"], golden["scores"])
    names = set(golden.files) - {"labels", "scores"}
    assert len(names) > 20
    assert names <= set(ours)
    for name in names:
        # The authors' code adds labels up in single precision, in an order of its own.
        atol = 1e-7 if name.startswith("r4c_code") else 1e-12
        np.testing.assert_allclose(ours[name], golden[name], rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_the_other_code_differs_by_single_precision_ratios(path):
    golden = np.load(path)
    ours = multilabel_metrics(golden["labels"], golden["scores"])
    for name in ("precision_example", "recall_example", "f1", "f2"):
        assert ours[f"r4c_code_{name}"] == pytest.approx(float(golden[f"r4c_code_{name}"]), abs=1e-15)
    assert ours["r4c_code_f1"] != ours["samples_f1"]


def test_golden_files_are_there():
    assert len(GOLDEN) == 2


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_multilabel_agrees_with_scikit_learn(seed, ties):
    labels, scores = random_part(seed, ties=ties)
    decisions = scores > 0.5
    ours = multilabel_metrics(labels, scores)
    options = {"zero_division": 0}
    for average, prefix in (("micro", "micro"), ("macro", "macro"), ("samples", "samples")):
        for beta, name in ((1, "f1"), (2, "f2")):
            expected = reference.fbeta_score(labels, decisions, beta=beta, average=average, **options)
            assert ours[f"{prefix}_{name}"] == pytest.approx(expected, abs=1e-12)
    for average, prefix in (("micro", "micro"), ("macro", "label"), ("samples", "example")):
        for score, name in ((reference.precision_score, "precision"), (reference.recall_score, "recall")):
            expected = score(labels, decisions, average=average, **options)
            assert ours[f"{prefix}_{name}"] == pytest.approx(expected, abs=1e-12)
    assert ours["hamming_loss"] == pytest.approx(reference.hamming_loss(labels, decisions))
    assert ours["subset_accuracy"] == pytest.approx(reference.accuracy_score(labels, decisions))
    ranking_average = reference.label_ranking_average_precision_score(labels, scores)
    assert ours["label_ranking_average_precision"] == pytest.approx(ranking_average)
    assert ours["ranking_loss"] == pytest.approx(reference.label_ranking_loss(labels, scores))
    assert ours["coverage_error"] == pytest.approx(reference.coverage_error(labels, scores))
    expected = reference.average_precision_score(labels, scores, average=None)
    np.testing.assert_allclose(ours["per_label_ap"], expected, atol=1e-12)
    assert ours["map_over_seen_labels"] == ours["mean_average_precision"] == pytest.approx(expected.mean())
    np.testing.assert_array_equal(ours["per_label_support"], labels.sum(0))
    np.testing.assert_array_equal(ours["per_label_predicted"], decisions.sum(0))


def test_f_of_means_and_mean_of_f_differ_by_hand():
    # Image 1: P = 1/2, R = 1. Image 2: P = 1, R = 1/2. Each image's own F1 is 2/3, F of the means 3/4.
    labels = [[1, 0], [1, 1]]
    scores = [[0.9, 0.8], [0.9, 0.1]]
    ours = multilabel_metrics(labels, scores)
    assert ours["example_f1"] == pytest.approx(3 / 4)
    assert ours["samples_f1"] == pytest.approx(2 / 3)
    assert ours["example_f2"] == pytest.approx(5 * 0.75 * 0.75 / (4 * 0.75 + 0.75))
    # F2 of (P, R) = (1/2, 1) is 5/6, of (1, 1/2) is 5/9.
    assert ours["samples_f2"] == pytest.approx((5 / 6 + 5 / 9) / 2)
    # Label 1 is right twice; label 2 has one false alarm and one miss.
    np.testing.assert_allclose(ours["per_label_f1"], [1, 0])
    assert ours["label_f1"] == ours["macro_f1"] == 0.5
    assert ours["micro_f1"] == pytest.approx(2 / 3)
    assert ours["hamming_loss"] == 0.5
    assert ours["one_error"] == 0.0


def test_f_of_the_published_means():
    precision, recall = 0.9400, 0.9393
    hits = 9400 * 9393
    # One label, with counts chosen so that precision and recall are those of the paper's table.
    predicted, support = hits // 9400, hits // 9393
    labels = np.zeros((predicted + support, 1))
    scores = np.zeros((predicted + support, 1))
    right = round(predicted * precision)
    labels[:support] = 1
    scores[support - right : support - right + predicted] = 1
    ours = multilabel_metrics(labels, scores)
    assert ours["label_precision"] == pytest.approx(precision, abs=1e-4)
    assert ours["label_recall"] == pytest.approx(recall, abs=1e-4)
    assert 100 * ours["label_f1"] == pytest.approx(93.96, abs=0.01)


def test_the_threshold_is_strict_and_exact_for_single_precision():
    assert multilabel_metrics([[1]], [[0.5]])["micro_recall"] == 0
    assert multilabel_metrics([[1]], [[np.nextafter(0.5, 1)]])["micro_recall"] == 1
    score = np.float32(0.3)
    assert float(score) > 0.3
    assert multilabel_metrics([[1]], np.array([[score]]), 0.3)["micro_recall"] == 1
    assert multilabel_metrics([[1]], np.array([[score]]), float(score))["micro_recall"] == 0


def test_one_threshold_per_label():
    labels, scores = random_part(1)
    thresholds = np.linspace(0.2, 0.8, 7)
    ours = multilabel_metrics(labels, scores, thresholds)
    for label, threshold in enumerate(thresholds):
        alone = multilabel_metrics(labels[:, [label]], scores[:, [label]], threshold)
        assert ours["per_label_f1"][label] == alone["micro_f1"]
    swapped = multilabel_metrics(labels, scores, thresholds[::-1])
    assert swapped["micro_f1"] != ours["micro_f1"]


def test_recall_falls_and_ranking_stays_as_the_threshold_rises():
    labels, scores = random_part(4)
    sweep = [multilabel_metrics(labels, scores, threshold) for threshold in np.linspace(-0.1, 1.1, 25)]
    for name in ("micro_recall", "example_recall", "label_recall"):
        values = [metrics[name] for metrics in sweep]
        assert values[0] == pytest.approx(1 if name != "example_recall" else (labels.sum(1) > 0).mean())
        assert values[-1] == 0
        assert (np.diff(values) <= 1e-12).all()
    assert len({metrics["map_over_seen_labels"] for metrics in sweep}) == 1


def test_the_order_of_images_does_not_matter_and_that_of_labels_permutes():
    labels, scores = random_part(5, ties=True)
    generator = np.random.default_rng(0)
    images, columns = generator.permutation(60), generator.permutation(7)
    before = multilabel_metrics(labels, scores)
    after = multilabel_metrics(labels[images][:, columns], scores[images][:, columns])
    for name, value in before.items():
        if name != "one_error":  # With ties the first label counts as the top one.
            expected = value[columns] if name.startswith("per_label") else value
            # The authors' code adds up in single precision, where order matters.
            atol = 1e-6 if name.startswith("r4c_code") else 1e-12
            np.testing.assert_allclose(after[name], expected, atol=atol, err_msg=name)


def test_images_without_labels_and_images_predicted_empty_count_as_zero():
    labels = np.array([[1, 0], [0, 0], [0, 0], [1, 0]])
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.1], [0.1, 0.1]])
    ours = multilabel_metrics(labels, scores)
    assert ours["example_precision"] == ours["example_recall"] == ours["samples_f1"] == 0.25
    assert ours["subset_accuracy"] == 0.5
    assert ours["ranking_loss"] == pytest.approx(reference.label_ranking_loss(labels, scores))
    np.testing.assert_array_equal(np.isnan(ours["per_label_ap"]), [False, True])
    assert ours["map_over_seen_labels"] == ours["per_label_ap"][0]


@pytest.mark.parametrize("images", [1, 5])
def test_all_zero_and_all_one_labels_stay_finite_and_silent(images):
    scores = np.random.default_rng(0).random((images, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        none = multilabel_metrics(np.zeros((images, 4)), scores)
        every = multilabel_metrics(np.ones((images, 4)), scores)
    undefined = {"per_label_ap", "map_over_seen_labels", "mean_average_precision"}
    assert {name for name, value in none.items() if np.isnan(value).any()} == undefined
    assert none["micro_f1"] == none["example_f1"] == none["one_error"] == 0
    assert not any(np.isnan(value).any() for value in every.values())
    assert every["map_over_seen_labels"] == 1
    assert every["label_precision"] == ((scores > 0.5).any(0)).mean()


def test_perfect_scores():
    labels, _ = random_part(7, share=0.5)
    labels[:, 0] = 1  # No image is without a label.
    ours = multilabel_metrics(labels, labels * 0.98 + 0.01)
    for name in ("example_f1", "label_f2", "samples_f1", "micro_f1", "macro_f1", "map_over_seen_labels"):
        assert ours[name] == pytest.approx(1)
    assert ours["hamming_loss"] == ours["ranking_loss"] == ours["one_error"] == 0


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("width", [np.float16, np.float32, np.float64])
def test_any_number_type(kind, width):
    labels, scores = random_part(2)
    scores = scores.astype(np.float16).astype(width)
    ours = multilabel_metrics(labels.astype(kind), scores)
    expected = multilabel_metrics(labels, scores.astype(float))
    for name, value in expected.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("labels", "scores", "threshold", "words"),
    [
        ([[0, 2]], [[0.1, 0.2]], 0.5, "0 or 1, found 2"),
        ([[0, 1]], [[0.1, np.nan]], 0.5, "NaN"),
        ([[0, 1]], [[0.1, 0.2, 0.3]], 0.5, r"\(1, 2\).*\(1, 3\)"),
        ([0, 1], [0.1, 0.2], 0.5, r"shape \(2,\)"),
        ([[0, 1]], [[0.1, 0.2]], [0.5, 0.5, 0.5], "2 .one per label"),
        ([[0, 1]], [[0.1, 0.2]], np.nan, "threshold is NaN"),
        ([[0, 1]], [[0.1, 0.2]], "high", "threshold must be a number"),
        (np.zeros((0, 3)), np.zeros((0, 3)), 0.5, "nothing to evaluate"),
        ([["a", "b"]], [[0.1, 0.2]], 0.5, "found a"),
        ([[0, 1]], [["x", "y"]], 0.5, "numbers"),
        ([[0, 1], [0]], [[0.1, 0.2], [0.1, 0.2]], 0.5, "labels must be an array"),
    ],
)
def test_bad_input_is_one_line(labels, scores, threshold, words):
    with pytest.raises(UserError, match=words) as caught:
        multilabel_metrics(labels, scores, threshold)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_large_parts_are_quick():
    import time

    generator = np.random.default_rng(0)
    labels = generator.random((50_000, 30)) < 0.1
    scores = (generator.random((50_000, 30)) + 0.2 * labels).astype(np.float32)
    start = time.perf_counter()
    multilabel_metrics(labels, scores)
    # Measured 0.2 s on 2 cores; a busy machine gets twenty times that.
    assert time.perf_counter() - start < 4


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("classes", [2, 4, 8])
def test_single_label_agrees_with_scikit_learn(classes, one_hot):
    generator = np.random.default_rng(classes)
    truth = generator.integers(classes, size=120)
    scores = generator.random((120, classes)) + 0.4 * np.eye(classes)[truth]
    predicted = scores.argmax(1)
    ours = singlelabel_metrics(np.eye(classes)[truth] if one_hot else truth, scores)
    assert ours["accuracy"] == pytest.approx(reference.accuracy_score(truth, predicted))
    assert ours["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(truth, predicted))
    assert ours["kappa"] == pytest.approx(reference.cohen_kappa_score(truth, predicted))
    assert ours["macro_f1"] == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert ours["weighted_f1"] == pytest.approx(reference.f1_score(truth, predicted, average="weighted"))
    precision, recall, f1, support = reference.precision_recall_fscore_support(truth, predicted)
    np.testing.assert_allclose(ours["per_label_precision"], precision)
    np.testing.assert_allclose(ours["per_label_recall"], recall)
    np.testing.assert_allclose(ours["per_label_f1"], f1)
    np.testing.assert_array_equal(ours["per_label_support"], support)
    assert ours["macro_precision"] == pytest.approx(precision.mean())
    assert ours["macro_recall"] == pytest.approx(recall.mean())
    np.testing.assert_array_equal(ours["confusion_matrix"], reference.confusion_matrix(truth, predicted))
    expected = reference.average_precision_score(np.eye(classes)[truth], scores, average=None)
    np.testing.assert_allclose(ours["per_label_ap"], expected)
    assert ours["map_over_seen_labels"] == pytest.approx(expected.mean())
    assert ("top_5_accuracy" in ours) == (classes > 5)
    if classes > 5:
        assert ours["top_5_accuracy"] == pytest.approx(reference.top_k_accuracy_score(truth, scores, k=5))


def test_single_label_classes_that_never_occur():
    truth, scores = np.array([0, 0, 1]), np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1]])
    ours = singlelabel_metrics(truth, scores)
    assert ours["accuracy"] == pytest.approx(2 / 3)
    assert ours["balanced_accuracy"] == pytest.approx(0.75)
    assert ours["macro_recall"] == pytest.approx(0.5)
    np.testing.assert_array_equal(ours["confusion_matrix"], [[1, 0, 1], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(np.isnan(ours["per_label_ap"]), [False, False, True])


def test_single_label_ties_go_to_the_first_class():
    scores = np.full((7, 7), 0.5)
    ours = singlelabel_metrics(np.arange(7), scores)
    assert ours["accuracy"] == pytest.approx(1 / 7)
    assert ours["top_5_accuracy"] == pytest.approx(5 / 7)
    assert np.isnan(singlelabel_metrics([0, 0], [[1.0, 0.0], [1.0, 0.0]])["kappa"])


@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([0, 3], np.ones((2, 3)), "class 3 of image 1 is outside 0 to 2"),
        ([0, -1], np.ones((2, 3)), "class -1"),
        ([0, 0.5], np.ones((2, 3)), "whole numbers"),
        ([0, np.nan], np.ones((2, 3)), "whole numbers"),
        (["a", "b"], np.ones((2, 3)), "whole numbers"),
        ([0, 1, 2], np.ones((2, 3)), "do not fit"),
        ([[1, 1, 0], [1, 0, 0]], np.ones((2, 3)), "image 0 has 2"),
        ([[0, 0, 0], [1, 0, 0]], np.ones((2, 3)), "image 0 has 0"),
        ([0, 1], np.array([[0.1, np.nan], [0.2, 0.3]]), "NaN"),
    ],
)
def test_bad_single_label_input_is_one_line(labels, scores, words):
    with pytest.raises(UserError, match=words) as caught:
        singlelabel_metrics(labels, scores)
    assert "\n" not in str(caught.value)
