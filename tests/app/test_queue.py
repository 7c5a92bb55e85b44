from types import SimpleNamespace

import numpy as np
import pytest

from rsml.app.page_queue import ranked
from rsml.data.samples import Samples


def workspace(labels, task="multi-label", thresholds=(0.5, 0.2), order=("sea", "sand")):
    names = ("sea", "sand") if np.shape(labels)[1] == 2 else ("sea", "sand", "trees")
    samples = Samples([f"{number}.png" for number in range(len(labels))], labels, names, task, "x")
    model = SimpleNamespace(labels=order if len(names) == 2 else names, thresholds=np.array(thresholds))
    return SimpleNamespace(samples=samples, model=model)


def test_suspects_come_by_how_far_a_score_lies_beyond_its_own_threshold():
    # Both of image 1 and 2 are 0.15 above; for a threshold of 0.2 that is less of what is possible than for 0.5.
    labels = [[1, 0], [0, 0], [0, 0], [1, 1]]
    scores = np.array([[0.9, 0.1], [0.65, 0.1], [0.1, 0.35], [0.95, 0.02]])
    order, why = ranked(workspace(labels), "suspects", scores)
    assert order.tolist() == [3, 1, 2]  # image 0 contradicts nothing
    assert why(3) == "It is labelled sand, which the model scores 0.02."
    assert why(1) == "It is not labelled sea, which the model scores 0.65."


def test_thresholds_follow_their_labels_where_the_model_has_another_order():
    scores = np.array([[0.35, 0.1]])
    model_first = workspace([[0, 0]], thresholds=(0.2, 0.5), order=("sand", "sea"))
    assert ranked(model_first, "suspects", scores)[0].tolist() == []
    assert ranked(workspace([[0, 0]], thresholds=(0.2, 0.5)), "suspects", scores)[0].tolist() == [0]


def test_the_least_certain_image_has_a_score_next_to_its_threshold():
    scores = np.array([[0.9, 0.9], [0.5001, 0.9], [0.9, 0.3], [np.nan, np.nan]])
    order, why = ranked(workspace([[1, 1]] * 4), "uncertain", scores)
    assert order.tolist() == [1, 2, 0]  # and none that could not be read
    assert why(2) == "sand: 0.30, where 0.20 decides."


def test_a_single_class_is_doubted_where_another_scores_more():
    single = workspace(np.eye(3, dtype=int)[[0, 0, 1]], "single-label", (0.5,) * 3)
    scores = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.34, 0.33, 0.33]])
    order, _ = ranked(single, "suspects", scores)
    assert order.tolist() == [1, 2]
    assert ranked(single, "uncertain", scores)[0][0] == 2


def test_runs_disagree_where_their_decisions_do():
    scores, other = np.array([[0.9, 0.1], [0.6, 0.1], [0.9, 0.1]]), np.array([[0.6, 0.1], [0.4, 0.1], [0.9, 0.9]])
    order, why = ranked(workspace([[1, 0]] * 3), "disagreements", scores, other)
    assert order.tolist() == [2, 1]
    assert why(2) == "sand: 0.10 by this run, 0.90 by the other."


@pytest.mark.parametrize("scores", [None, np.full((50, 2), 0.5)])
def test_an_audit_is_every_image_once_in_an_order_that_stays(scores):
    first, _ = ranked(workspace([[1, 0]] * 50), "random", scores)
    again, _ = ranked(workspace([[1, 0]] * 50), "random", scores)
    assert first.tolist() == again.tolist() != list(range(50))
    assert sorted(first.tolist()) == list(range(50))
