"""SIGNA: channel attention in a space of semantic features that graph networks make of the label graph."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import keras
from keras import ops
from numpy.typing import ArrayLike

from rsml.layers.graph_convolution import GraphConvolution, as_lists, graph_array, node_array
from rsml.layers.interleaving import interleave_exact, interleave_full, interleave_interpolated

Evaluation = Literal["exact", "interpolated"]


def signa_attention(
    features: ArrayLike,
    label_features: ArrayLike,
    q_weight: ArrayLike,
    q_bias: ArrayLike,
    v_weight: ArrayLike,
    v_bias: ArrayLike,
    out_kernel: ArrayLike,
    out_bias: ArrayLike,
    logit_scale: float,
    residual: bool = True,
    evaluation: Evaluation = "exact",
    nodes: int = 16,
) -> Any:
    """Weight the channels of feature maps by multi-head semantic interleaving (SIGNA, eq. 5 and Fig. 5).

    The "shared" expansion has one affine map from a channel's mean to the labels, shared by all channels; the "full"
    one has a map of its own for each channel. The rank of `q_weight` says which.

    Args:
        features: feature maps or tokens, `(batch, ..., channels)`.
        label_features: outputs of the heads' graph networks, `(heads, labels, channels)`.
        q_weight: the expansion's weights: shared `(heads, labels)`, full `(heads, channels, channels * labels)`.
        q_bias: the expansion's biases: shared `(heads, labels)`, full `(heads, channels * labels)`.
        v_weight: weights of the interleaved values: shared `(heads,)`, full `(heads, channels, channels)`.
        v_bias: biases of the interleaved values: shared `(heads,)`, full `(heads, channels)`.
        out_kernel: joins the heads, `(heads * channels, channels)`.
        out_bias: `(channels,)`.
        logit_scale: factor of the logits.
        residual: True returns `features + features * weights`, False `features * weights`.
        evaluation: `"exact"`, or `"interpolated"` for the shared expansion.
        nodes: Chebyshev nodes a cell of the interpolation.

    Returns:
        Tensor of the shape and dtype of `features`.
    """
    features = ops.convert_to_tensor(features)
    # The softmax is sharp and the sums are long: everything about z is float32 under a mixed policy.
    precision = "float64" if keras.backend.standardize_dtype(features.dtype) == "float64" else "float32"
    label_features, q_weight, q_bias, v_weight, v_bias, out_kernel, out_bias = (
        ops.cast(ops.convert_to_tensor(x), precision)
        for x in (label_features, q_weight, q_bias, v_weight, v_bias, out_kernel, out_bias)
    )
    heads, labels, channels = label_features.shape
    z = ops.mean(ops.cast(features, precision), axis=tuple(range(1, len(features.shape) - 1)))
    if len(q_weight.shape) == 2:
        slope = logit_scale * ops.einsum("hc,hcd->hd", q_weight, label_features)
        offset = logit_scale * ops.einsum("hc,hcd->hd", q_bias, label_features)
        if evaluation == "interpolated":
            interleaved = interleave_interpolated(z, slope, offset, nodes)
        else:
            interleaved = interleave_exact(z, slope, offset)
        # The rows of the softmax sum to one, so the affine map of the values may come after it.
        interleaved = v_weight[:, None] * interleaved + v_bias[:, None]
    else:
        expanded = ops.matmul(z, q_weight) + q_bias[:, None]
        queries = ops.reshape(expanded, (heads, -1, channels, labels))
        values = ops.matmul(z, v_weight) + v_bias[:, None]
        interleaved = interleave_full(queries, logit_scale * label_features, values)
    weights = ops.matmul(ops.reshape(interleaved, (-1, heads * channels)), out_kernel) + out_bias
    if residual:
        weights = weights + 1.0
    weights = ops.reshape(weights, (-1, *[1] * (len(features.shape) - 2), channels))
    return features * ops.cast(weights, features.dtype)


@keras.saving.register_keras_serializable("rsml")
class SIGNA(keras.layers.Layer):
    """Multi-head semantic interleaving global channel attention, insertable after any layer of any backbone.

    Each head has a graph network that turns the labels' word vectors into label features, one number a label and
    channel, and a softmax over channels whose logits come from the image's globally averaged channels and the label
    features. The heads' outputs are joined to one weight a channel, and the feature maps return weighted.

    The label features do not depend on the image: they are computed once a step. `fold` makes them constants. The
    graph and the word vectors are part of the layer's config, so a saved model carries them.

    Args:
        graph: label graph, as `rsml.graph.threshold_graph` makes it from the training labels, `(labels, labels)`.
        node_features: word vectors of the labels, as `rsml.graph.word_vectors` makes them, `(labels, width)`.
        heads: heads, each with a graph network of its own.
        gnn: `"gcn"`, `"graphsage"` (the paper's choice) or `"gat"`; see `GraphConvolution`.
        depth: layers of each graph network.
        widths: widths of these layers; None for half the channels and, last, the channels. The last must be the
            number of channels.
        negative_slope: slope of the LeakyReLU between these layers. The recorded runs of the published code have a
            ReLU there: 0.
        expansion: `"shared"`, the published code's affine map for all channels, or `"full"`, the text's map for each.
        logit_scale: factor of the logits; None or "sqrt" for the square root of the number of labels, as the published
            code; 1 as the text.
        residual: whether to add the unweighted feature maps.
        join_trainable: whether the dense layer that joins the heads learns; the published code leaves it as drawn.
        evaluation: `"exact"`, O(channels^2), or `"interpolated"`, O(channels): the same to about 1e-6. Shared
            expansion only.
        nodes: Chebyshev nodes a cell of the interpolation. It decides about speed, not accuracy.
        gnn_options: further arguments of `GraphConvolution`. The published code: `{"reverse_edges": True}`, for
            `"gcn"` with `"edge_weights": False` too.
        folded: whether the label features are constants. Set by `fold`.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape: feature maps `(batch, height, width, channels)` or tokens `(batch, tokens, channels)`, the channels
    last and known; the other sizes may be unknown.

    Output shape: the same.

    Examples:
        >>> from rsml import graph
        >>> training_labels = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1]])
        >>> label_graph = graph.threshold_graph(graph.cooccurrence(training_labels))
        >>> layer = SIGNA(label_graph, graph.word_vectors(["sea", "sand", "trees"]), heads=2)
        >>> layer(np.ones((1, 16, 16, 32))).shape
        TensorShape([1, 16, 16, 32])

    Reference:
        Liu et al., Semantic Interleaving Global Channel Attention for Multilabel Remote Sensing Image Classification,
        2022.
    """

    def __init__(
        self,
        graph: ArrayLike,
        node_features: ArrayLike,
        heads: int = 6,
        gnn: Literal["gcn", "graphsage", "gat"] = "graphsage",
        depth: int = 2,
        widths: tuple[int, ...] | list[int] | None = None,
        negative_slope: float = 0.2,
        expansion: Literal["shared", "full"] = "shared",
        logit_scale: float | Literal["sqrt"] | None = None,
        residual: bool = True,
        join_trainable: bool = True,
        evaluation: Evaluation = "exact",
        nodes: int = 16,
        gnn_options: Mapping[str, Any] | None = None,
        folded: bool = False,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.graph = graph_array(graph)
        self.node_features = node_array(node_features, len(self.graph))
        for name, value in {"heads": heads, "depth": depth, "nodes": nodes}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"SIGNA: expected {name} to be a positive integer, got {value!r}")
        for name, value, choices in (
            ("gnn", gnn, ("gcn", "graphsage", "gat")),
            ("expansion", expansion, ("shared", "full")),
            ("evaluation", evaluation, ("exact", "interpolated")),
        ):
            if value not in choices:
                raise ValueError(f"SIGNA: expected {name} to be one of {', '.join(choices)}, got {value!r}")
        if widths is not None and len(widths) != depth:
            raise ValueError(f"SIGNA: expected {depth} widths, one for each layer (depth), got {list(widths)}")
        if expansion == "full" and evaluation == "interpolated":
            raise ValueError('SIGNA: evaluation "interpolated" needs expansion "shared"; choose "exact" for "full"')
        logit_scale = None if logit_scale == "sqrt" else logit_scale
        if logit_scale is not None and not logit_scale > 0:
            raise ValueError(f"SIGNA: expected logit_scale > 0 or None, got {logit_scale!r}")
        self.heads = heads
        self.gnn = gnn
        self.depth = depth
        self.widths = None if widths is None else list(widths)
        self.negative_slope = negative_slope
        self.expansion = expansion
        self.logit_scale = logit_scale
        self.residual = residual
        self.join_trainable = join_trainable
        self.evaluation = evaluation
        self.nodes = nodes
        self.gnn_options = dict(gnn_options or {})
        self.folded = folded
        self.supports_jit = evaluation == "exact"  # XLA wants to know the number of nodes before it sees the data

    def build(self, input_shape: Any) -> None:
        if len(input_shape) < 3 or input_shape[-1] is None:
            raise ValueError(
                "SIGNA: expected feature maps (batch, height, width, channels) or tokens (batch, tokens, "
                f"channels) with known channels, got {tuple(input_shape)}; insert it after a layer with channels"
            )
        channels, labels = input_shape[-1], len(self.graph)
        widths = self.widths or [channels // 2] * (self.depth - 1) + [channels]
        if widths[-1] != channels:
            raise ValueError(f"SIGNA: the last width must be the {channels} channels it weights, got {widths[-1]}")

        # One flat list: Keras saves no lists within lists.
        self.graph_layers = []
        if self.folded:
            self.constant_label_features = self.add_weight(
                (self.heads, labels, channels), "zeros", trainable=False, name="label_features"
            )
        else:
            for head in range(self.heads):
                node_shape = self.node_features.shape
                for index, width in enumerate(widths):
                    layer = GraphConvolution(
                        width,
                        self.graph,
                        self.gnn,
                        **self.gnn_options,
                        dtype=self.variable_dtype,
                        name=f"head_{head}_layer_{index}",
                    )
                    layer.build(node_shape)
                    node_shape = (labels, width)
                    self.graph_layers.append(layer)

        if self.expansion == "shared":
            shapes = {"q_weight": (labels,), "q_bias": (labels,), "v_weight": (), "v_bias": ()}
            bound = 1.0
        else:
            shapes = {
                "q_weight": (channels, channels * labels),
                "q_bias": (channels * labels,),
                "v_weight": (channels, channels),
                "v_bias": (channels,),
            }
            bound = channels**-0.5
        # Uniform within the root of the fan-in, as the published code's linear layers begin.
        initializer = keras.initializers.RandomUniform(-bound, bound)
        for name, shape in shapes.items():
            setattr(self, name, self.add_weight((self.heads, *shape), initializer.clone(), name=name))
        bound = (self.heads * channels) ** -0.5
        initializer = keras.initializers.RandomUniform(-bound, bound)
        join = {"trainable": self.join_trainable}
        self.out_kernel = self.add_weight((self.heads * channels, channels), initializer, name="out_kernel", **join)
        self.out_bias = self.add_weight((channels,), initializer.clone(), name="out_bias", **join)

    def label_features(self) -> Any:
        """Return the graph networks' outputs, `(heads, labels, channels)`."""
        if self.folded:
            return ops.convert_to_tensor(self.constant_label_features)
        heads = []
        for head in range(self.heads):
            features = ops.convert_to_tensor(self.node_features, dtype=self.variable_dtype)
            for index, layer in enumerate(self.graph_layers[head * self.depth : (head + 1) * self.depth]):
                if index:
                    features = ops.leaky_relu(features, self.negative_slope)
                features = layer(features)
            heads.append(features)
        return ops.stack(heads)

    def call(self, inputs: Any) -> Any:
        return signa_attention(
            ops.cast(inputs, self.compute_dtype),
            self.label_features(),
            self.q_weight,
            self.q_bias,
            self.v_weight,
            self.v_bias,
            self.out_kernel,
            self.out_bias,
            logit_scale=math.sqrt(len(self.graph)) if self.logit_scale is None else self.logit_scale,
            residual=self.residual,
            evaluation=self.evaluation,
            nodes=self.nodes,
        )

    def fold(self) -> "SIGNA":
        """Return a copy of this built layer that holds its label features as constants instead of graph networks.

        Its outputs are the same. It can be trained on, but its label features no longer learn. To fold a whole model:
        `keras.models.clone_model(model, clone_function=lambda layer: layer.fold() if isinstance(layer, SIGNA) else
        layer)`.
        """
        if not self.built:
            raise ValueError("SIGNA: only a built layer can be folded; call it on feature maps first")
        folded = SIGNA.from_config({**self.get_config(), "folded": True})
        folded.build((None, None, self.out_bias.shape[0]))
        own = ("q_weight", "q_bias", "v_weight", "v_bias", "out_kernel", "out_bias")
        for name in own:
            getattr(folded, name).assign(getattr(self, name))
        folded.constant_label_features.assign(self.label_features())
        return folded

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "graph": as_lists(self.graph),
            "node_features": as_lists(self.node_features),
            "heads": self.heads,
            "gnn": self.gnn,
            "depth": self.depth,
            "widths": self.widths,
            "negative_slope": self.negative_slope,
            "expansion": self.expansion,
            "logit_scale": self.logit_scale,
            "residual": self.residual,
            "join_trainable": self.join_trainable,
            "evaluation": self.evaluation,
            "nodes": self.nodes,
            "gnn_options": self.gnn_options,
            "folded": self.folded,
        }
