"""The head of ML-GCN against its formula."""

import numpy as np
import pytest

from rsml.graph import normalized_adjacency, reweighted_adjacency
from rsml.layers import LabelGraphClassifier
from tests.layers.checks import check_layer

GRAPH = np.array([[0, 0.5, 0, 0.9], [0.4, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], np.float32)
VECTORS = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
FEATURES = np.random.default_rng(1).normal(size=(3, 12)).astype("float32")


@pytest.mark.parametrize("adjacency", ["reweighted", "normalized"])
def test_logits_are_products_with_the_graph_networks_classifiers(adjacency):
    layer = LabelGraphClassifier(GRAPH, VECTORS, hidden=7, adjacency=adjacency, neighbor_share=0.3)
    outputs = layer(FEATURES)
    first, second = (weight.numpy() for weight in layer.weights)
    matrix = reweighted_adjacency(GRAPH, 0.3) if adjacency == "reweighted" else normalized_adjacency(GRAPH)
    hidden = matrix @ VECTORS @ first
    classifiers = matrix @ np.where(hidden > 0, hidden, 0.2 * hidden) @ second
    assert classifiers.shape == (4, 12)
    np.testing.assert_allclose(outputs, FEATURES @ classifiers.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("adjacency", ["reweighted", "normalized"])
def test_life_of_the_layer(adjacency, tmp_path):
    layer = LabelGraphClassifier(GRAPH, VECTORS, hidden=7, adjacency=adjacency, negative_slope=0.1)
    check_layer(layer, FEATURES, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"graph": GRAPH[:3, :3]}, "3 labels"),
        ({"hidden": 0}, "hidden"),
        ({"adjacency": "plain"}, "reweighted or normalized"),
        ({"neighbor_share": 2}, r"\[0, 1\]"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as fault:
        LabelGraphClassifier(**{"graph": GRAPH, "node_features": VECTORS, **arguments})
    assert "\n" not in str(fault.value)


def test_inputs_that_are_not_pooled():
    with pytest.raises(ValueError, match="pool"):
        LabelGraphClassifier(GRAPH, VECTORS).build((None, 4, 4, 12))
