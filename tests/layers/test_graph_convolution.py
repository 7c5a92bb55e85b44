"""GraphConvolution against numpy formulas, PyTorch Geometric's recorded outputs and Spektral's own layer."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from spektral.layers import GraphSageConv

from rsml.layers import GraphConvolution
from tests.layers.checks import check_layer

DATA = Path(__file__).parents[1] / "data"
GRAPH = np.array([[0, 0.5, 0, 0.9], [0.4, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], np.float32)
FEATURES = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")


def golden(number):
    with np.load(DATA / f"signa_{number}.npz") as arrays:
        return dict(arrays)


def randomized(layer, features=FEATURES):
    layer.build(features.shape)
    generator = np.random.default_rng(1)
    layer.set_weights([generator.normal(size=weight.shape) for weight in layer.weights])
    return layer, [weight.numpy().astype("float64") for weight in layer.weights]


def equation_4(graph):
    looped = graph + np.eye(len(graph))
    root = np.diag(looped.sum(1) ** -0.5)
    return root @ looped @ root


@pytest.mark.parametrize(
    ("options", "adjacency"),
    [
        ({}, equation_4(GRAPH)),
        ({"reverse_edges": True}, equation_4(GRAPH.T)),
        ({"edge_weights": False}, equation_4(np.sign(GRAPH))),
        ({"normalize": False}, GRAPH),
    ],
)
def test_gcn_is_equation_4(options, adjacency):
    layer, (kernel, bias) = randomized(GraphConvolution(3, GRAPH, "gcn", activation="relu", **options))
    expected = np.maximum(adjacency @ FEATURES @ kernel + bias, 0)
    np.testing.assert_allclose(layer(FEATURES), expected, rtol=1e-5, atol=1e-5)


def test_finished_adjacency_may_have_loops():
    adjacency = equation_4(GRAPH)
    layer, (kernel,) = randomized(GraphConvolution(3, adjacency, normalize=False, use_bias=False))
    np.testing.assert_allclose(layer(FEATURES), adjacency @ FEATURES @ kernel, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("unit_length", [False, True])
def test_graphsage_is_the_mean_of_neighbours(reverse, loops, unit_length):
    layer, (kernel, bias) = randomized(
        GraphConvolution(3, GRAPH, "graphsage", reverse_edges=reverse, self_loops=loops, l2_normalize=unit_length)
    )
    edges = np.sign(GRAPH.T if reverse else GRAPH) + loops * np.eye(4)
    mean = edges @ FEATURES / np.maximum(edges.sum(1, keepdims=True), 1)
    expected = np.concatenate([FEATURES, mean], axis=1) @ kernel + bias
    if unit_length:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(layer(FEATURES), expected, rtol=1e-5, atol=1e-5)


def test_graphsage_can_be_spektrals_own():
    layer, weights = randomized(
        GraphConvolution(3, GRAPH, "graphsage", reverse_edges=True, self_loops=True, l2_normalize=True)
    )
    edges = np.argwhere(GRAPH)
    sparse = tf.SparseTensor(edges, np.ones(len(edges), "float32"), GRAPH.shape)
    spektral = GraphSageConv(3)
    spektral.build([FEATURES.shape, GRAPH.shape])
    spektral.set_weights(weights)
    np.testing.assert_allclose(layer(FEATURES), spektral.call([tf.constant(FEATURES), sparse]), rtol=1e-6, atol=1e-6)


def test_gat_is_attention_over_neighbours():
    layer, (kernel, attend_self, attend_neighbour, bias) = randomized(
        GraphConvolution(3, GRAPH, "gat", attention_heads=2)
    )
    expected = np.zeros((4, 3))
    for head in range(2):
        mapped = FEATURES @ kernel[:, head]
        logits = mapped @ attend_self[:, head] + (mapped @ attend_neighbour[:, head]).T
        logits = np.where(logits > 0, logits, 0.2 * logits)
        weights = np.exp(logits) * (np.sign(GRAPH) + np.eye(4))
        expected += weights / weights.sum(1, keepdims=True) @ mapped / 2
    np.testing.assert_allclose(layer(FEATURES), expected + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["graphsage", "gat"])
def test_edge_weights_do_not_count_where_spektral_takes_none(kind):
    layer, weights = randomized(GraphConvolution(3, GRAPH, kind))
    binary = GraphConvolution(3, np.sign(GRAPH), kind)
    binary.build(FEATURES.shape)
    binary.set_weights(weights)
    np.testing.assert_array_equal(layer(FEATURES), binary(FEATURES))


def test_published_graphsage():
    arrays = golden(0)
    layer = GraphConvolution(64, arrays["adjacency"], "graphsage", reverse_edges=True)
    layer.build(arrays["node_features"].shape)
    kernel = np.concatenate([arrays["gnn_0_lin_r.weight"].T, arrays["gnn_0_lin_l.weight"].T])
    layer.set_weights([kernel, arrays["gnn_0_lin_l.bias"]])
    np.testing.assert_allclose(layer(arrays["node_features"]), arrays["label_features"][0], rtol=1e-4, atol=1e-5)


def test_published_gcn():
    arrays = golden(1)
    layer = GraphConvolution(128, arrays["adjacency"], "gcn", edge_weights=False, reverse_edges=True)
    layer.build(arrays["node_features"].shape)
    layer.set_weights([arrays["gnn_0_lin.weight"].T, arrays["gnn_0_bias"]])
    np.testing.assert_allclose(layer(arrays["node_features"]), arrays["label_features"][0], rtol=1e-4, atol=1e-5)


def test_published_graphsage_of_two_layers():
    arrays = golden(2)
    features = arrays["node_features"]
    for index, activation in enumerate(("relu", None)):
        layer = GraphConvolution(
            (128, 256)[index], arrays["adjacency"], "graphsage", activation=activation, reverse_edges=True
        )
        layer.build(features.shape)
        kernel = np.concatenate([arrays[f"gnn_{index}_lin_r.weight"].T, arrays[f"gnn_{index}_lin_l.weight"].T])
        layer.set_weights([kernel, arrays[f"gnn_{index}_lin_l.bias"]])
        features = layer(features)
    np.testing.assert_allclose(features, arrays["label_features"][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("kind", ["gcn", "graphsage", "gat"])
def test_batches_are_done_one_by_one(kind, batch):
    layer, _ = randomized(GraphConvolution(3, GRAPH, kind))
    features = np.random.default_rng(2).normal(size=(batch, 4, 5)).astype("float32")
    outputs = layer(features)
    for inputs, output in zip(features, outputs, strict=True):
        np.testing.assert_allclose(layer(inputs), output, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "gcn", "activation": "relu"},
        {"kind": "graphsage", "self_loops": True, "l2_normalize": True},
        {"kind": "gat", "attention_heads": 2, "use_bias": False, "reverse_edges": True},
    ],
)
def test_life_of_the_layer(options, tmp_path):
    inputs = np.random.default_rng(3).normal(size=(2, 4, 5)).astype("float32")
    layer = GraphConvolution(6, GRAPH, kernel_initializer="he_normal", **options)
    check_layer(layer, inputs, tmp_path, resting=("attn_kernel_self",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, GRAPH, "gin"), "gcn, graphsage, gat"),
        ((0, GRAPH), "units"),
        ((3, GRAPH[:, :3]), "square"),
        ((3, GRAPH[:1, :1]), "two labels"),
        ((3, GRAPH + np.eye(4)), "zero diagonal"),
        ((3, GRAPH * np.nan), "finite"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as fault:
        GraphConvolution(*arguments)
    assert "\n" not in str(fault.value)


def test_features_of_another_number_of_labels():
    with pytest.raises(ValueError, match=r"graph has 4 labels.*got \(3, 5\)"):
        GraphConvolution(3, GRAPH).build((3, 5))
