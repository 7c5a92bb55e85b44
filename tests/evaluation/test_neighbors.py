import numpy as np
import pytest
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

from rsml.evaluation.neighbors import largest, unit
from rsml.retrieval import knn_f1, knn_scores, nearest_rows
from rsml.utils.errors import UserError


def vectors(seed, count, width=8):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def labels_of(seed, count, labels=5):
    labels = (np.random.default_rng(seed).random((count, labels)) < 0.4).astype(np.uint8)
    labels[~labels.any(1), 0] = 1
    return labels


def brute(bank, queries, k):
    cosine = unit(queries).astype(np.float64) @ unit(bank).astype(np.float64).T
    return np.argsort(-cosine, axis=1, kind="stable")[:, :k], -np.sort(-cosine, axis=1)[:, :k]


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("bank_block", [7, 64, 10_000])
def test_nearest_equals_a_whole_sort_whatever_the_blocks(k, bank_block):
    bank, queries = vectors(0, 501), vectors(1, 33)
    rows, distances = nearest_rows(bank, queries, k, query_block=10, bank_block=bank_block)
    expected, cosine = brute(bank, queries, k)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, np.sqrt(2 - 2 * cosine), rtol=1e-5)


def test_largest_finds_the_largest_in_groups_and_beyond_them():
    values = np.random.default_rng(2).normal(size=(20, 64 * 50 + 13)).astype(np.float32)
    values[3, -5:] = [9, 8, 7, 6, 5]  # in the columns after the last whole group
    values[4, :64] += 10  # all of the largest in one group
    for count in (1, 5, 12):
        expected = np.sort(np.argsort(-values, axis=1)[:, :count])
        np.testing.assert_array_equal(np.sort(largest(values, count)), expected)


def test_scale_and_precision_of_the_bank_do_not_matter():
    bank, queries = vectors(3, 100), vectors(4, 9)
    rows, _ = nearest_rows(bank, queries, 4)
    scaled, _ = nearest_rows(bank * np.linspace(0.1, 50, 100, dtype=np.float32)[:, None], queries * 7, 4)
    np.testing.assert_array_equal(rows, scaled)
    halves = bank.astype(np.float16)
    np.testing.assert_array_equal(
        nearest_rows(halves, queries, 4)[0], nearest_rows(halves.astype(np.float32), queries, 4)[0]
    )


def test_own_image_is_passed_over():
    bank = vectors(5, 40)
    own = np.arange(40)
    rows, distances = nearest_rows(bank, bank, 3, own=own, bank_block=16)
    assert not (rows == own[:, None]).any() and (distances > 0).all()
    whole, _ = nearest_rows(bank, bank, 4)
    np.testing.assert_array_equal(whole[:, 0], own)
    np.testing.assert_array_equal(whole[:, 1:], rows)
    some = np.where(own < 20, own, -1)
    np.testing.assert_array_equal(nearest_rows(bank, bank, 3, own=some)[0][20:], whole[20:, :3])


@pytest.mark.parametrize("weights", ["distance", "uniform"])
def test_scores_are_those_of_scikit_learn(weights):
    bank, labels, queries = vectors(6, 200), labels_of(7, 200), vectors(8, 50)
    queries[:5] = bank[[0, 3, 5, 8, 13]]  # at distance 0: they decide alone
    bank[100] = bank[3]  # ... together with a repeated image
    oracle = KNeighborsClassifier(10, weights=weights, algorithm="brute").fit(unit(bank).astype(float), labels)
    expected = np.stack([p[:, 1] for p in oracle.predict_proba(unit(queries).astype(float))], axis=1)
    scores = knn_scores(bank, labels, queries, k=10, weights=weights)
    np.testing.assert_allclose(scores, expected, atol=2e-6)
    if weights == "distance":
        np.testing.assert_allclose(scores[1], (labels[3] + labels[100].astype(float)) / 2, atol=1e-6)
    truth = labels_of(9, 50)
    decided = oracle.predict(unit(queries).astype(float))
    expected_f1 = f1_score(truth, decided, average="samples", zero_division=0)
    assert knn_f1(bank, labels, queries, truth, k=10, weights=weights) == pytest.approx(expected_f1)


def test_fewer_images_than_k_all_vote():
    bank, labels = vectors(10, 3), np.eye(3)
    np.testing.assert_allclose(knn_scores(bank, labels, vectors(11, 2), k=10, weights="uniform"), 1 / 3)
    np.testing.assert_array_equal(knn_scores(bank[:1], labels[:1], vectors(11, 2), k=10), [[1, 0, 0]] * 2)


def test_a_zero_vector_is_at_equal_distance_from_all():
    bank = np.vstack([np.zeros(8), vectors(12, 3)])
    rows, distances = nearest_rows(bank, np.zeros((1, 8)), 4)
    assert np.isfinite(distances).all() and rows.shape == (1, 4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b: nearest_rows(b[:1], b[:1], 10, own=[0]), "an archive of 1 leaves no neighbour"),
        (lambda b: nearest_rows(b[:0], b, 10), "at least one image"),
        (lambda b: nearest_rows(b, b[:, :4], 10), "have 8 values, the queries' 4"),
        (lambda b: nearest_rows(b, b, 0), "k is 0"),
        (lambda b: nearest_rows(b, b, 1, own=[99] * 6), "own must name one of 6 rows"),
        (lambda b: nearest_rows(np.where(b > 1, np.nan, b), b, 1), "hold NaN or infinity"),
        (lambda b: nearest_rows(b, b * np.float32(np.inf), 1), "hold NaN or infinity"),
        (lambda b: knn_scores(b, np.ones((5, 2)), b), "holds 6 images, its labels have shape"),
        (lambda b: knn_scores(b, np.ones((6, 2)), b, weights="cubic"), "KNN weights are 'cubic'"),
    ],
)
def test_faults_are_one_line(call, words):
    with pytest.raises(UserError, match=words):
        call(vectors(13, 6))
