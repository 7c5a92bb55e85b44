"""SIGNA against the published code's recorded outputs and gradients, and against its formulas in numpy."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from rsml.layers import SIGNA, signa_attention
from tests.layers.checks import check_layer

WEIGHTS = ("q_weight", "q_bias", "v_weight", "v_bias", "out_kernel", "out_bias")
DATA = Path(__file__).parents[1] / "data"
GRAPH = np.array([[0, 0.5, 0, 0.9], [0.4, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], np.float32)
VECTORS = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
FEATURES = np.random.default_rng(1).normal(0.5, 1, size=(3, 4, 5, 12)).astype("float32")


def golden(number):
    with np.load(DATA / f"signa_{number}.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("evaluation", ["exact", "interpolated"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_algebra_of_the_published_code(number, evaluation):
    arrays = golden(number)
    features = tf.constant(arrays["features"])
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = signa_attention(
            features,
            arrays["label_features"],
            *(arrays[name] for name in WEIGHTS),
            logit_scale=arrays["logit_scale"],
            evaluation=evaluation,
        )
        total = tf.reduce_sum(outputs)
    np.testing.assert_allclose(outputs, arrays["output"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tape.gradient(total, features), arrays["grad_features"], rtol=1e-4, atol=1e-5)


def test_layer_of_the_published_code():
    arrays = golden(2)
    layer = SIGNA(
        arrays["adjacency"],
        arrays["node_features"],
        heads=1,
        negative_slope=0.0,
        gnn_options={"reverse_edges": True},
    )
    layer.build(arrays["features"].shape)
    for index, graph_layer in enumerate(layer.graph_layers):
        kernel = [arrays[f"gnn_{index}_lin_{side}.weight"].T for side in "rl"]
        graph_layer.set_weights([np.concatenate(kernel), arrays[f"gnn_{index}_lin_l.bias"]])
    for name in WEIGHTS:
        getattr(layer, name).assign(arrays[name])
    np.testing.assert_allclose(layer.label_features(), arrays["label_features"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer(arrays["features"]), arrays["output"], rtol=1e-4, atol=1e-5)


def softmax(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("expansion", ["shared", "full"])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("scale", [None, 0.7])
def test_layer_is_equation_5(expansion, residual, scale):
    layer = SIGNA(GRAPH, VECTORS, heads=2, expansion=expansion, residual=residual, logit_scale=scale)
    outputs = layer(FEATURES)
    labels, channels = 4, 12
    z = FEATURES.mean((1, 2), dtype="float64")
    q_weight, q_bias, v_weight, v_bias, out_kernel, out_bias = (getattr(layer, name).numpy() for name in WEIGHTS)
    label_features = np.asarray(layer.label_features())
    interleaved = []
    for head in range(2):
        if expansion == "shared":
            expanded = z[:, :, None] * q_weight[head] + q_bias[head]
            values = z * v_weight[head] + v_bias[head]
        else:
            expanded = (z @ q_weight[head] + q_bias[head]).reshape(-1, channels, labels)
            values = z @ v_weight[head] + v_bias[head]
        matrix = softmax((2.0 if scale is None else scale) * expanded @ label_features[head])
        interleaved.append(np.einsum("bde,be->bd", matrix, values))
    weights = np.concatenate(interleaved, axis=1) @ out_kernel + out_bias
    expected = FEATURES * (weights[:, None, None] + residual)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_label_features_are_two_graph_convolutions_a_head():
    layer = SIGNA(GRAPH, VECTORS, heads=2, gnn="gcn")
    layer.build(FEATURES.shape)
    looped = GRAPH + np.eye(4)
    root = np.diag(looped.sum(1) ** -0.5)
    adjacency = root @ looped @ root
    for head in range(2):
        first, second = layer.graph_layers[2 * head : 2 * head + 2]
        assert (first.units, second.units) == (6, 12)
        hidden = adjacency @ VECTORS @ first.weights[0].numpy()
        expected = adjacency @ np.where(hidden > 0, hidden, 0.2 * hidden) @ second.weights[0].numpy()
        np.testing.assert_allclose(layer.label_features()[head], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(layer.label_features()[0] - layer.label_features()[1]).max() > 0.01


def test_channels_may_be_permuted():
    """The layer knows its channels by its weights only: permuting both changes nothing but the order."""
    layer = SIGNA(GRAPH, VECTORS, heads=2)
    outputs = layer(FEATURES).numpy()
    order = np.random.default_rng(2).permutation(12)
    kernel = layer.out_kernel.numpy().reshape(2, 12, 12)[:, order][:, :, order].reshape(24, 12)
    permuted = signa_attention(
        FEATURES[..., order],
        layer.label_features().numpy()[:, :, order],
        *(getattr(layer, name).numpy() for name in WEIGHTS[:4]),
        kernel,
        layer.out_bias.numpy()[order],
        logit_scale=2.0,
    )
    np.testing.assert_allclose(permuted, outputs[..., order], rtol=1e-4, atol=1e-5)


def test_tokens_are_feature_maps_in_a_row():
    layer = SIGNA(GRAPH, VECTORS, heads=2)
    outputs = layer(FEATURES)
    tokens = layer(FEATURES.reshape(3, 20, 12))
    np.testing.assert_allclose(tokens, np.reshape(outputs, (3, 20, 12)), rtol=1e-5, atol=1e-6)


def test_spatial_size_may_be_unknown():
    layer = SIGNA(GRAPH, VECTORS, heads=2, evaluation="interpolated")
    symbol = keras.Input((None, None, 12))
    model = keras.Model(symbol, layer(symbol))
    assert model.output_shape == (None, None, None, 12)
    np.testing.assert_allclose(model.predict(FEATURES, verbose=0), layer(FEATURES), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gnn": "gcn", "gnn_options": {"edge_weights": False, "reverse_edges": True}, "logit_scale": 1.0},
        {"gnn": "gat", "depth": 1, "residual": False},
        {"expansion": "full", "depth": 3, "widths": [7, 5, 12]},
        {"evaluation": "interpolated", "nodes": 12},
        {"folded": True},
    ],
)
def test_life_of_the_layer(options, tmp_path):
    layer = SIGNA(GRAPH, VECTORS, heads=2, **options)
    if layer.folded:
        layer.build(FEATURES.shape)
        layer.constant_label_features.assign(np.random.default_rng(3).normal(size=(2, 4, 12)))
    # A softmax does not feel what its label adds to all neighbours, unless the LeakyReLU bends between them.
    check_layer(layer, FEATURES, tmp_path, resting=("attn_kernel_self",))


def test_the_two_evaluations_train_alike():
    keras.utils.set_random_seed(0)
    exact = SIGNA(GRAPH, np.repeat(VECTORS, 3, axis=1), heads=2)
    features = np.abs(np.random.default_rng(4).normal(size=(4, 2, 2, 64))).astype("float32")
    exact.build(features.shape)
    # Weak slopes, so that 64 channels are enough for the interpolation to be used.
    exact.q_weight.assign(0.05 * exact.q_weight)
    fast = SIGNA.from_config({**exact.get_config(), "evaluation": "interpolated"})
    fast.build(features.shape)
    fast.set_weights(exact.get_weights())
    gradients = []
    for layer in (exact, fast):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(features) ** 3)
        gradients.append(tape.gradient(loss, [v.value for v in layer.trainable_variables]))
    for left, right in zip(*gradients, strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=2e-5 * np.abs(left).max())


def test_folding_keeps_the_outputs_and_drops_the_graph_networks(tmp_path):
    symbol = keras.Input((None, None, 12))
    model = keras.Model(symbol, keras.layers.ReLU()(SIGNA(GRAPH, VECTORS, heads=2, name="attention")(symbol)))
    folded = keras.models.clone_model(
        model, clone_function=lambda layer: layer.fold() if isinstance(layer, SIGNA) else layer
    )
    np.testing.assert_allclose(folded(FEATURES), model(FEATURES), rtol=1e-6, atol=1e-6)
    assert folded.count_params() < model.count_params()
    folded.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    np.testing.assert_allclose(loaded(FEATURES), model(FEATURES), rtol=1e-6, atol=1e-6)
    assert [weight.name for weight in loaded.trainable_weights] == list(WEIGHTS)
    with pytest.raises(ValueError, match="built"):
        SIGNA(GRAPH, VECTORS).fold()


def test_label_features_do_not_grow_with_the_batch():
    """The graph networks stand in the step once: none of their tensors has the batch's axis."""
    layer = SIGNA(GRAPH, VECTORS, heads=2)
    layer.build((None, None, None, 12))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((None, None, None, 12))).graph
    operations = [operation for operation in graph.get_operations() if "head_" in operation.name]
    assert sum(operation.type == "MatMul" for operation in operations) == 4  # two heads of two layers
    assert all(output.shape.is_fully_defined() for operation in operations for output in operation.outputs)


def test_config_is_plain_and_exact():
    layer = SIGNA(GRAPH / 3, VECTORS / 7)
    config = json.loads(json.dumps(layer.get_config()))
    again = SIGNA.from_config(config)
    np.testing.assert_array_equal(again.graph, layer.graph)
    np.testing.assert_array_equal(again.node_features, layer.node_features)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"graph": GRAPH[:3, :3]}, "3 labels.*same list of labels"),
        ({"graph": GRAPH[:, :3]}, "square"),
        ({"graph": [[0.0]], "node_features": [[1.0]]}, "two labels"),
        ({"node_features": VECTORS[0]}, "4 labels"),
        ({"node_features": VECTORS * np.nan}, "finite"),
        ({"gnn": "gin"}, "gcn, graphsage, gat"),
        ({"heads": 0}, "heads"),
        ({"nodes": 2.5}, "nodes"),
        ({"widths": [12]}, "2 widths"),
        ({"logit_scale": 0}, "logit_scale"),
        ({"expansion": "full", "evaluation": "interpolated"}, "shared"),
        ({"evaluation": "fast"}, "exact, interpolated"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as fault:
        SIGNA(**{"graph": GRAPH, "node_features": VECTORS, **arguments})
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("shape", [(None, 12), (None, 4, 4, None), (12,)])
def test_inputs_without_channels(shape):
    with pytest.raises(ValueError, match="known channels"):
        SIGNA(GRAPH, VECTORS).build(shape)


def test_last_width_is_the_number_of_channels():
    with pytest.raises(ValueError, match="12 channels it weights, got 8"):
        SIGNA(GRAPH, VECTORS, widths=(6, 8)).build(FEATURES.shape)
