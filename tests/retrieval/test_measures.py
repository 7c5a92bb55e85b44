import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, hamming_loss, ndcg_score

from rsml.retrieval import MEASURES, measures, retrieval_measures, retrieval_metrics
from rsml.utils.errors import UserError

# One query with labels {0, 1, 2}; the images retrieved share 2, 0, 3 and 1 labels with it.
QUERY = np.array([[1, 1, 1, 0]])
ARCHIVE = np.array([[0, 0, 0, 1], [1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
RETRIEVED = np.array([[2, 0, 1, 3]])


def random_case(seed, queries=23, images=61, labels=7, density=0.3):
    random = np.random.default_rng(seed)
    query_labels = (random.random((queries, labels)) < density).astype(np.uint8)
    archive = (random.random((images, labels)) < density).astype(np.uint8)
    ranking = np.stack([random.permutation(images) for _ in range(queries)])
    return query_labels, archive, ranking


def slow(query, archive, ranking, depth):
    """The definitions, one image after another."""
    shared = [sum(int(a) & int(b) for a, b in zip(query, archive[row], strict=True)) for row in ranking[:depth]]
    hits = precisions = gains = 0.0
    for rank in range(1, depth + 1):
        if shared[rank - 1] > 0:
            hits += 1
            precisions += sum(g > 0 for g in shared[:rank]) / rank
            gains += sum(shared[:rank]) / rank

    def dcg(values):
        return sum((2**g - 1) / math.log2(rank + 1) for rank, g in enumerate(values, 1))

    possible = sorted((int((query & row).sum()) for row in archive), reverse=True)[:depth]
    answerable = possible[0] > 0
    differ = sum(int(a) != int(b) for row in ranking[:depth] for a, b in zip(query, archive[row], strict=True))
    return {
        "precision": sum(g > 0 for g in shared) / depth,
        "acg": sum(shared) / depth,
        "map": (precisions / hits if hits else 0.0) if answerable else math.nan,
        "wmap": (gains / hits if hits else 0.0) if answerable else math.nan,
        "ndcg": dcg(shared) / dcg(possible) if answerable else math.nan,
        "hamming_loss": differ / depth / len(query),
    }


def test_hand_computed():
    result = {name: values[0] for name, values in retrieval_measures(QUERY, RETRIEVED, ARCHIVE, at=(1, 2, 4)).items()}
    np.testing.assert_allclose(result["precision"], [1, 1 / 2, 3 / 4])
    np.testing.assert_allclose(result["acg"], [2, 1, 6 / 4])
    np.testing.assert_allclose(result["map"], [1, 1, (1 + 2 / 3 + 3 / 4) / 3])
    np.testing.assert_allclose(result["wmap"], [2, 2, (2 + 5 / 3 + 6 / 4) / 3])
    # Labels that differ: 1, 4, 0, 3 of 4.
    np.testing.assert_allclose(result["hamming_loss"], [1 / 4, 5 / 8, 8 / 16])
    # DCG@4 = 3 + 0 + 7/2 + 1/log2(5); the best order of the archive has gains 3, 3, 2, 1.
    best = 7 + 7 / math.log2(3) + 3 / 2 + 1 / math.log2(5)
    assert result["ndcg"][0] == pytest.approx(3 / 7)
    assert result["ndcg"][2] == pytest.approx((3 + 7 / 2 + 1 / math.log2(5)) / best)


def test_without_the_archive_the_ideal_is_the_retrieved_list():
    labels = ARCHIVE[RETRIEVED]
    result = retrieval_metrics(QUERY, labels, at=[4])
    best = 7 + 3 / math.log2(3) + 1 / 2
    assert result["ndcg@4"] == pytest.approx((3 + 7 / 2 + 1 / math.log2(5)) / best)
    with_archive = retrieval_metrics(QUERY, RETRIEVED, ARCHIVE, at=[4])
    assert all(result[f"{name}@4"] == with_archive[f"{name}@4"] for name in MEASURES if name != "ndcg")


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_equals_a_loop_over_the_definitions(density, monkeypatch):
    monkeypatch.setattr(measures, "_BLOCK", 3000)  # several blocks of queries
    queries, archive, ranking = random_case(0, density=density)
    depths = (7, 1, 61, 20)
    result = retrieval_measures(queries, ranking, archive, at=depths)
    assert np.isnan(result["map"]).any() == (density == 0.1)
    for row in range(len(queries)):
        for column, depth in enumerate(depths):
            expected = slow(queries[row], archive, ranking[row], depth)
            for name in MEASURES:
                assert result[name][row, column] == pytest.approx(expected[name], nan_ok=True), (name, depth)


def test_equals_scikit_learn_over_the_whole_archive():
    queries, archive, ranking = random_case(1)
    result = retrieval_measures(queries, ranking, archive, at=[61])
    score = -np.argsort(ranking, axis=1).astype(float)
    gains = queries.astype(int) @ archive.T
    for row in np.flatnonzero(queries.any(1)):
        assert result["map"][row, 0] == pytest.approx(average_precision_score(gains[row] > 0, score[row]))
        expected = ndcg_score([2.0 ** gains[row] - 1], [score[row]])
        assert result["ndcg"][row, 0] == pytest.approx(expected)
        assert result["hamming_loss"][row, 0] == pytest.approx(
            np.mean([hamming_loss(queries[row], labels) for labels in archive])
        )


def test_properties_of_the_best_and_the_worst_ranking():
    queries, archive, _ = random_case(2)
    queries = queries[queries.any(1)]
    gains = queries.astype(int) @ archive.T
    best = retrieval_metrics(queries, np.argsort(-gains, axis=1, kind="stable"), archive, at=(3, 30))
    worst = retrieval_metrics(queries, np.argsort(gains, axis=1, kind="stable"), archive, at=(3, 30))
    for depth in (3, 30):
        assert best[f"ndcg@{depth}"] == pytest.approx(1)
        assert best[f"map@{depth}"] == pytest.approx(1)
        for name in ("map", "wmap", "ndcg", "acg", "precision"):
            assert best[f"{name}@{depth}"] > worst[f"{name}@{depth}"]


def test_one_hot_labels_are_single_label_retrieval():
    random = np.random.default_rng(3)
    classes, archive = random.integers(0, 4, 10), random.integers(0, 4, 40)
    ranking = np.stack([random.permutation(40)[:9] for _ in classes])
    result = retrieval_metrics(np.eye(4)[classes], ranking, np.eye(4)[archive], at=[9])
    same = archive[ranking] == classes[:, None]
    assert result["precision@9"] == result["acg@9"] == pytest.approx(same.mean())
    assert result["map@9"] == result["wmap@9"]
    assert result["hamming_loss@9"] == pytest.approx(2 * (1 - same.mean()) / 4)


def test_a_query_that_nothing_can_answer_is_left_out_of_what_is_undefined():
    queries = np.vstack([QUERY, [[0, 0, 0, 0]]])
    both = retrieval_metrics(queries, np.repeat(RETRIEVED, 2, axis=0), ARCHIVE, at=[4])
    one = retrieval_metrics(QUERY, RETRIEVED, ARCHIVE, at=[4])
    assert both["map@4"] == one["map@4"] and both["ndcg@4"] == one["ndcg@4"]
    assert both["precision@4"] == one["precision@4"] / 2


def test_a_query_that_only_the_ranking_failed_counts_zero():
    result = retrieval_metrics(np.array([[1, 0], [0, 1]]), np.array([[0], [0]]), np.array([[1, 0], [0, 1]]), at=[1])
    assert result["map@1"] == result["ndcg@1"] == 0.5


def test_an_archive_of_one():
    assert retrieval_metrics([[1, 0]], [[0]], [[1, 1]], at=[1])["hamming_loss@1"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((QUERY, RETRIEVED, ARCHIVE, [5]), "R = 5 need 5 retrieved images a query, there are 4"),
        ((QUERY, RETRIEVED, ARCHIVE, [0]), "R is 0"),
        ((QUERY, RETRIEVED, ARCHIVE, []), "R is empty"),
        ((QUERY, RETRIEVED, None, [1]), "give archive_labels"),
        ((QUERY, RETRIEVED + 2, ARCHIVE, [1]), "row 5 was retrieved, but the archive has the rows 0 to 4"),
        ((QUERY, RETRIEVED - 1, ARCHIVE, [1]), "row -1 "),
        ((QUERY, RETRIEVED, ARCHIVE[:, :3], [1]), "archive labels have 3 columns, the query labels 4"),
        ((QUERY * 2, RETRIEVED, ARCHIVE, [1]), "query labels must be 0 or 1, found 2"),
        ((np.repeat(QUERY, 2, 0), RETRIEVED, ARCHIVE, [1]), "2 queries, but the images retrieved for 1"),
        ((QUERY, RETRIEVED, 1 - np.maximum(QUERY, 0).repeat(5, 0), [1]), "no query shares a label"),
    ],
)
def test_faults_are_one_line(arguments, words):
    with pytest.raises(UserError, match=words):
        retrieval_metrics(*arguments)
