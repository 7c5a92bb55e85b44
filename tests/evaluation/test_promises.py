import numpy as np
import pytest

from rsml.evaluation.promises import Promise, sentence
from rsml.utils.errors import UserError


def drawn(images, seed, labels=6, one_class=False):
    random = np.random.default_rng(seed)
    if one_class:
        logits = random.normal(0, 1.5, (images, labels))
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return random.multinomial(1, scores), scores
    scores = random.beta(0.4, 0.8, (images, labels))
    return (random.random(scores.shape) < scores).astype(int), scores


def risk(measure, truth, named):
    hits = (truth & named).sum(axis=1)
    out_of = truth.sum(axis=1) if measure == "recall" else named.sum(axis=1)
    return 1 - np.where(out_of > 0, hits / np.maximum(out_of, 1), 1.0)


@pytest.mark.parametrize("one_class", [False, True])
@pytest.mark.parametrize(("measure", "level"), [("recall", 0.9), ("precision", 0.8), ("recall", 0.6)])
def test_it_is_kept_on_average_over_divisions(measure, level, one_class):
    reached = []
    for seed in range(60):
        truth, scores = drawn(1200, seed, one_class=one_class)
        promise = Promise(measure, level, one_class).fit(truth[:60], scores[:60])
        reached.append(promise.reached(truth[60:], scores[60:], resamples=0)["reached"])
    # The guarantee is of the mean over divisions; the slack is three standard errors.
    assert np.mean(reached) >= level - 3 * np.std(reached) / np.sqrt(60)
    if measure == "recall":  # and it is not given away: one label an image more or less
        assert np.mean(reached) < level + 0.08


@pytest.mark.parametrize("measure", ["recall", "precision"])
def test_the_threshold_is_the_best_that_the_bound_allows(measure):
    truth, scores = drawn(80, 7)
    promise = Promise(measure, 0.75).fit(truth, scores)
    grid = np.linspace(0, 1, 1001)
    losses = np.array([risk(measure, truth > 0, scores > t) for t in grid])
    if measure == "precision":  # the worst at this or any stricter threshold
        losses = np.maximum.accumulate(losses[::-1])[::-1]
    bounds = (losses.sum(axis=1) + 1) / 81
    allowed = grid[bounds <= 0.25]
    best = max(allowed) if measure == "recall" else min(allowed)
    assert promise.threshold == pytest.approx(best, abs=0.01)


def test_recall_of_one_class_is_split_conformal_prediction():
    truth, scores = drawn(99, 3, one_class=True)
    promise = Promise("recall", 0.9, one_class=True).fit(truth, scores)
    true = np.sort(scores[truth > 0])
    # floor((n + 1) alpha) = 10: of the true classes' scores the ten lowest may be cut, less one for the new image.
    assert true[8] <= promise.threshold < true[9]


def test_unsure_images():
    one = Promise("recall", 0.9, True, threshold=0.3)
    scores = np.array([[0.9, 0.1, 0.0], [0.5, 0.45, 0.05], [0.3, 0.3, 0.3]])
    assert one.unsure(scores).tolist() == [False, True, True]
    assert one.named(scores).sum(axis=1).tolist() == [1, 2, 0]
    precise = Promise("precision", 0.9, False, threshold=0.8)
    assert precise.unsure(scores).tolist() == [False, True, True]
    many = Promise("recall", 0.9, False, threshold=0.2)
    assert many.unsure(scores).tolist() == [False, True, True]


def test_precision_of_one_class_names_the_first_or_none():
    promise = Promise("precision", 0.9, True, threshold=0.4)
    assert promise.named(np.array([[0.45, 0.55], [0.3, 0.3]])).tolist() == [[False, True], [False, False]]


def test_the_sentence_has_promise_images_and_what_was_reached():
    truth, scores = drawn(400, 5)
    promise = Promise.parse("recall>=90%").fit(truth[:100], scores[:100])
    text = sentence(promise.reached(truth[100:], scores[100:]))
    assert text.startswith("promised recall >= 90 % from 100 validation images; test part: 89.2 % [")
    assert "labels an image" in text


def test_needed_images():
    assert [Promise.parse(text).needed for text in ("recall>=0.95", "precision>=0.9", "recall>=0.99")] == [19, 9, 99]
    truth, scores = drawn(15, 1)
    with pytest.raises(UserError, match=r"recall >= 0.95: needs 19 validation images, found 15: 4 are missing"):
        Promise.parse("recall>=0.95").fit(truth, scores)
    truth, scores = drawn(19, 1)
    assert Promise.parse("recall>=0.95").fit(truth, scores).threshold < scores[truth > 0].min()


@pytest.mark.parametrize("text", ["recall>0.9", "f1>=0.9", "recall>=2", "recall>=1.0", "recall>=0", ""])
def test_what_is_no_promise_is_named(text):
    with pytest.raises(UserError, match=r"evaluation.thresholds"):
        Promise.parse(text)
