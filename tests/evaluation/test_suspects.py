import numpy as np
import pytest

from rsml.evaluation.suspects import find_suspects
from rsml.utils.errors import UserError


def test_flipped_labels_come_first():
    random = np.random.default_rng(0)
    truth = random.random((500, 6)) < [0.5, 0.3, 0.1, 0.05, 0.5, 0.2]
    scores = np.clip(0.5 + (truth - 0.5) * 0.8 + random.normal(0, 0.2, truth.shape), 0, 1)
    flipped = random.random(truth.shape) < 0.05
    found = find_suspects(truth ^ flipped, scores)
    places = [(one.image, one.given if one.given is not None else one.likely) for one in found]
    hits = np.array([flipped[place] for place in places])
    assert hits[:50].mean() > 0.95 and hits.sum() > 0.6 * flipped.sum()
    assert [one.doubt for one in found] == sorted((one.doubt for one in found), reverse=True)
    for one, (image, column) in zip(found, places, strict=True):
        assert (one.given is not None) == bool((truth ^ flipped)[image, column])
        assert one.score == scores[image, column]


def test_a_label_that_is_never_sure_has_its_own_threshold():
    labels = np.array([[1]] * 10 + [[0]] * 30)
    scores = np.where(labels, 0.3, 0.05)
    scores[0], scores[20] = 0.02, 0.35  # one without a sign of the label, and one with more than those that have it
    found = find_suspects(labels, scores)
    assert {(one.image, one.given is None) for one in found} == {(0, False), (20, True)}


def test_classes():
    labels = np.eye(3)[[0] * 10 + [1] * 10 + [2] * 10]
    scores = 0.1 + 0.7 * labels
    scores[3] = [0.05, 0.9, 0.05]
    (found,) = find_suspects(labels, scores, one_class=True)
    assert (found.image, found.given, found.likely) == (3, 0, 1)
    assert found.doubt == pytest.approx(0.85)


def test_nothing_is_suspect_where_all_agree_and_a_label_that_none_has_is_left_alone():
    labels = np.array([[1, 0], [0, 0]] * 5)
    assert find_suspects(labels, np.where(labels, 0.9, 0.1)) == []
    with pytest.raises(UserError, match="are not of the same images"):
        find_suspects(labels, np.zeros((10, 3)))
