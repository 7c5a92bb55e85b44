"""Spektral's graph convolutions over a label graph, behind one door that works under Keras 3."""

from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import ArrayLike
from spektral.layers import GATConv, GCNConv, GraphSageConv

from rsml.graph import normalized_adjacency
from rsml.utils.errors import UserError

KINDS = ("gcn", "graphsage", "gat")


@keras.saving.register_keras_serializable("rsml")
class GraphConvolution(keras.layers.Layer):
    """One graph convolution over a fixed label graph, which the layer carries in its config.

    Label `i` listens to label `j` where `graph[i, j]` is not zero. What Spektral's layers make of the edges differs:

    - `"gcn"`: `activation(A X W + b)` with `A = D^-1/2 (G + I) D^-1/2` (SIGNA, eq. 4). Uses the edge weights.
    - `"graphsage"`: `activation([X || mean of the neighbours] W + b)`. Spektral's layer takes a binary graph, so edge
      weights are not used. It also counts a label among its own neighbours and scales the outputs to unit length;
      PyTorch Geometric's, which the published code of SIGNA uses, does neither. `self_loops` and `l2_normalize` choose.
    - `"gat"`: attention over the neighbours and the label itself. Takes a binary graph; edge weights are not used.

    The work is done in the variables' precision (float32 under a mixed policy): a label graph is too small to gain.

    Args:
        units: width of the output.
        graph: edge weights without self-loops, `(labels, labels)`.
        kind: `"gcn"`, `"graphsage"` or `"gat"`.
        activation: activation of the output.
        use_bias: whether to add a bias.
        normalize: GCN only: apply eq. 4; False takes `graph` as the finished adjacency `A`, self-loops included.
        edge_weights: GCN only: False sets every edge to 1, as the published code of SIGNA does.
        reverse_edges: listen along `graph[j, i]` instead. The published code of SIGNA does so, for its edges point
            from row to column and its messages go along them.
        self_loops: GraphSAGE only: count a label among its own neighbours.
        l2_normalize: GraphSAGE only: scale each label's output to unit length before the activation.
        attention_heads: GAT only: heads, whose outputs are averaged.
        dropout: GAT only: dropout rate of the attention while training.
        kernel_initializer: initializer of the kernel.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape: `(labels, features)` or `(batch, labels, features)`.

    Output shape: the same with `units` for `features`.

    Examples:
        >>> graph = [[0, 0.5, 0], [1, 0, 0], [0, 0, 0]]  # the third label has no neighbour
        >>> layer = GraphConvolution(4, graph, "gcn", activation="relu")
        >>> layer(np.ones((3, 100))).shape
        TensorShape([3, 4])

    Reference:
        Grattarola and Alippi, Graph Neural Networks in TensorFlow and Keras with Spektral, 2021.
    """

    def __init__(
        self,
        units: int,
        graph: ArrayLike,
        kind: Literal["gcn", "graphsage", "gat"] = "gcn",
        activation: str | Callable | None = None,
        use_bias: bool = True,
        normalize: bool = True,
        edge_weights: bool = True,
        reverse_edges: bool = False,
        self_loops: bool = False,
        l2_normalize: bool = False,
        attention_heads: int = 1,
        dropout: float = 0.0,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        if kind not in KINDS:
            raise ValueError(f"GraphConvolution: expected kind to be one of {', '.join(KINDS)}, got {kind!r}")
        if not isinstance(units, int) or units < 1:
            raise ValueError(f"GraphConvolution: expected units to be a positive integer, got {units!r}")
        self.units = units
        self.graph = graph_array(graph, allow_loops=kind == "gcn" and not normalize)
        self.kind = kind
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.normalize = normalize
        self.edge_weights = edge_weights
        self.reverse_edges = reverse_edges
        self.self_loops = self_loops
        self.l2_normalize = l2_normalize
        self.attention_heads = attention_heads
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

        options = {
            "activation": activation,
            "use_bias": use_bias,
            "kernel_initializer": self.kernel_initializer,
            "dtype": self.variable_dtype,
            "name": "convolution",
        }
        if kind == "gcn":
            self.convolution = _GCN(units, **options)
        elif kind == "graphsage":
            self.convolution = _GraphSAGE(units, aggregate="mean", l2_normalize=l2_normalize, **options)
        else:
            self.convolution = _GAT(
                units, attn_heads=attention_heads, concat_heads=False, dropout_rate=dropout, **options
            )

    def _adjacency(self) -> tf.Tensor | tf.SparseTensor:
        """Returns the adjacency as Spektral's layer wants it."""
        graph = self.graph.T if self.reverse_edges else self.graph
        if self.kind != "gcn" or not self.edge_weights:
            graph = (graph != 0).astype(np.float32)
        if self.kind == "gcn" and self.normalize:
            graph = normalized_adjacency(graph)
        if self.kind == "graphsage":
            if self.self_loops:
                graph = np.maximum(graph, np.eye(len(graph)))
            graph = graph.T  # GCN and GAT gather along the rows, GraphSAGE sends from row to column
            edges = np.argwhere(graph)
            return tf.SparseTensor(edges, np.ones(len(edges), self.variable_dtype), graph.shape)
        return tf.constant(graph, self.variable_dtype)

    def build(self, input_shape: Any) -> None:
        labels = len(self.graph)
        if len(input_shape) not in (2, 3) or input_shape[-2] != labels or input_shape[-1] is None:
            raise ValueError(
                f"GraphConvolution: the graph has {labels} labels, so it expects node features of shape "
                f"({labels}, features), got {tuple(input_shape)}"
            )
        self.convolution.build([input_shape, (labels, labels)])

    def call(self, inputs: Any) -> Any:
        features = ops.cast(inputs, self.variable_dtype)
        return ops.cast(self.convolution([features, self._adjacency()]), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "graph": as_lists(self.graph),
            "kind": self.kind,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "normalize": self.normalize,
            "edge_weights": self.edge_weights,
            "reverse_edges": self.reverse_edges,
            "self_loops": self.self_loops,
            "l2_normalize": self.l2_normalize,
            "attention_heads": self.attention_heads,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def graph_array(graph: ArrayLike, allow_loops: bool = False) -> np.ndarray:
    """Checks a graph given to a layer and returns it as float32, `(labels, labels)`."""
    loops = np.eye(len(np.asarray(graph)))
    try:
        normalized_adjacency(np.maximum(graph, loops) - loops if allow_loops else graph)
    except UserError as fault:
        raise ValueError(str(fault)) from None
    return np.asarray(graph, dtype=np.float32)


def node_array(node_features: ArrayLike, labels: int) -> np.ndarray:
    """Checks node features given to a layer against its graph and returns them as float32, `(labels, width)`."""
    array = np.asarray(node_features, dtype=np.float32)
    if array.ndim != 2 or len(array) != labels or not array.shape[1] or not np.isfinite(array).all():
        raise ValueError(
            f"node_features: the graph has {labels} labels, so expected finite numbers of shape ({labels}, width), got "
            f"shape {array.shape}; make both from the same list of labels"
        )
    return array


def as_lists(array: np.ndarray) -> list:
    """Turns a float32 array into lists of the shortest numbers that read back as the same float32."""
    return np.vectorize(lambda value: float(str(np.float32(value))), otypes=[float])(array).tolist()


class _GCN(GCNConv):
    """Spektral's GCN without the mask: Keras 3 hands every layer of two inputs one that Spektral cannot take."""

    def call(self, inputs: Any) -> Any:
        return super().call(inputs, mask=None)


class _GAT(GATConv):
    """Spektral's GAT without the mask, see `_GCN`."""

    def call(self, inputs: Any) -> Any:
        return super().call(inputs, mask=None)


class _GraphSAGE(GraphSageConv):
    """Spektral's GraphSAGE, whose self-loops the graph decides and whose unit length is an option."""

    def __init__(self, *args: Any, l2_normalize: bool, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.l2_normalize = l2_normalize

    def call(self, inputs: Any) -> Any:
        features, adjacency = inputs
        outputs = ops.concatenate([features, self.propagate(features, adjacency)], axis=-1) @ self.kernel
        if self.use_bias:
            outputs = outputs + self.bias
        if self.l2_normalize:
            outputs = tf.math.l2_normalize(outputs, axis=-1)
        return self.activation(outputs)
