"""Co-occurrence and the label graph against counting by hand, equation 4 and the published code."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rsml.graph import (
    conditional_probabilities,
    cooccurrence,
    edge_counts,
    normalized_adjacency,
    reweighted_adjacency,
    threshold_graph,
)
from rsml.utils.errors import UserError

LABELS = np.array(
    [[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]]
)  # always, 3 of 5, 2 of 5, never
GOLDEN = [np.load(path) for path in sorted(Path(__file__).parents[1].joinpath("data").glob("signa_*.npz"))]


def random_labels(seed, images=200, labels=7):
    generator = np.random.default_rng(seed)
    return (generator.random((images, labels)) < generator.uniform(0.05, 0.9, labels)).astype(np.uint8)


def test_counts_are_pairs_of_labels_in_one_image():
    labels = random_labels(0)
    expected = [[np.sum((labels[:, i] == 1) & (labels[:, j] == 1)) for j in range(7)] for i in range(7)]
    counts = cooccurrence(labels)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(cooccurrence(labels.astype(bool)), expected)


def test_counts_do_not_overflow_the_type_of_the_labels():
    assert (cooccurrence(np.ones((300, 2), np.uint8)) == 300).all()


def test_labels_that_always_or_never_occur_stay_finite():
    counts = cooccurrence(LABELS)
    probabilities = conditional_probabilities(counts)
    np.testing.assert_allclose(
        probabilities, [[1, 0.6, 0.4, 0], [1, 1, 1 / 3, 0], [1, 0.5, 1, 0], [0, 0, 0, 0]], rtol=1e-12
    )
    graph = threshold_graph(counts, 0.4)
    np.testing.assert_allclose(graph, [[0, 0.6, 0.4, 0], [1, 0, 0, 0], [1, 0.5, 0, 0], [0, 0, 0, 0]], rtol=1e-6)
    assert np.isfinite(normalized_adjacency(graph)).all() and np.isfinite(reweighted_adjacency(graph)).all()


def test_an_edge_exactly_at_the_threshold_is_kept():
    counts = np.array([[10, 4], [4, 7]])
    assert threshold_graph(counts, 0.4)[0, 1] == np.float32(0.4)
    assert threshold_graph(counts, 0.41)[0, 1] == 0


def test_thresholds_zero_and_one():
    counts = cooccurrence(random_labels(1))
    probabilities = conditional_probabilities(counts)
    np.fill_diagonal(probabilities, 0)
    np.testing.assert_allclose(threshold_graph(counts, 0), probabilities, rtol=1e-6)
    np.testing.assert_array_equal(threshold_graph(counts, 1), probabilities == 1)


def test_graph_follows_a_permutation_of_the_labels():
    labels = random_labels(2)
    order = np.random.default_rng(3).permutation(7)
    graph = threshold_graph(cooccurrence(labels))
    np.testing.assert_array_equal(threshold_graph(cooccurrence(labels[:, order])), graph[np.ix_(order, order)])


@pytest.mark.parametrize("golden", GOLDEN)
def test_graph_agrees_with_the_authors_code(golden):
    graph = threshold_graph(cooccurrence(golden["labels"]), 0.4)
    np.testing.assert_allclose(graph, golden["adjacency"], rtol=1e-6)
    assert edge_counts(graph).total == golden["edge_index"].shape[1]


def test_normalisation_is_equation_4():
    graph = threshold_graph(cooccurrence(random_labels(4)))
    looped = graph.astype(np.float64) + np.eye(7)
    root = np.diag(1 / np.sqrt(looped.sum(1)))
    np.testing.assert_allclose(normalized_adjacency(graph), root @ looped @ root, rtol=1e-6)
    np.testing.assert_array_equal(normalized_adjacency(np.zeros((3, 3))), np.eye(3))


def test_reweighting_gives_the_neighbours_their_share():
    graph = np.array([[0, 0.5, 0.9], [0.7, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(reweighted_adjacency(graph, 0.2), [[0.8, 0.1, 0.1], [0.2, 0.8, 0], [0, 0, 1]], rtol=1e-6)


def test_edges_are_counted_in_and_out():
    per_label, total = edge_counts([[0, 0.5, 0.9], [0.7, 0, 0], [0, 0, 0]])
    assert total == 3
    assert per_label.tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((5, 1)), "two labels"),
        (np.zeros(5), "shape"),
        (np.zeros((0, 4)), "shape"),
        (np.full((5, 3), 2), "0 and 1"),
        (np.full((5, 3), np.nan), "0 and 1"),
        (np.array([["a", "b"]]), "0 and 1"),
    ],
)
def test_bad_labels_are_one_line(labels, message):
    with pytest.raises(UserError, match=message) as fault:
        cooccurrence(labels)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan, "0.4", None])
def test_bad_thresholds_are_one_line(threshold):
    with pytest.raises(UserError, match=r"\[0, 1\]"):
        threshold_graph(np.eye(3), threshold)


@pytest.mark.parametrize(
    ("function", "matrix", "message"),
    [
        (threshold_graph, np.eye(1), "two labels"),
        (threshold_graph, np.zeros((2, 3)), "square"),
        (threshold_graph, [[1, 5], [5, 9]], r"N\[i, j\]"),
        (threshold_graph, [["a", "b"], ["c", "d"]], "numbers"),
        (normalized_adjacency, np.eye(3), "zero diagonal"),
        (normalized_adjacency, [[0, -1], [0, 0]], ">= 0"),
        (normalized_adjacency, [[0, np.inf], [0, 0]], "finite"),
        (edge_counts, np.zeros(4), "square"),
    ],
)
def test_bad_matrices_are_one_line(function, matrix, message):
    with pytest.raises(UserError, match=message) as fault:
        function(matrix)
    assert "\n" not in str(fault.value)


@pytest.mark.skipif("RSML_TEST_DATA" not in os.environ, reason="RSML_TEST_DATA is not set")
@pytest.mark.parametrize(
    ("name", "separator", "edges", "stricter"),
    [("ucm/LandUse_Multilabeled.txt", "\t", 50, 40), ("labels/aid_multilabel.csv", ",", 99, 91)],
)
def test_edges_of_the_published_annotation(name, separator, edges, stricter):
    table = pd.read_csv(Path(os.environ["RSML_TEST_DATA"], "data", name), sep=separator, index_col=0)
    counts = cooccurrence(table.to_numpy())
    assert table.shape[1] == 17
    assert edge_counts(threshold_graph(counts, 0.4)).total == edges
    assert edge_counts(threshold_graph(counts, 0.5)).total == stricter
