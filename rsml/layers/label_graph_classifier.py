"""The head of ML-GCN: a graph network over the labels makes each label's classifier of the pooled feature."""

from typing import Any, Literal

import keras
from keras import ops
from numpy.typing import ArrayLike

from rsml.graph import normalized_adjacency, reweighted_adjacency
from rsml.layers.graph_convolution import GraphConvolution, as_lists, graph_array, node_array


@keras.saving.register_keras_serializable("rsml")
class LabelGraphClassifier(keras.layers.Layer):
    """Turns pooled features into logits with classifiers that two graph convolutions make of the labels' word vectors.

    The graph and the word vectors are part of the layer's config, so a saved model carries them.

    Args:
        graph: label graph, as `rsml.graph.threshold_graph` makes it from the training labels, `(labels, labels)`.
        node_features: word vectors of the labels, as `rsml.graph.word_vectors` makes them, `(labels, width)`.
        hidden: width of the first graph convolution.
        adjacency: `"reweighted"` as ML-GCN (edges count, not their weights), or `"normalized"` as SIGNA's eq. 4.
        neighbor_share: what a label's neighbours have of it together, if `"reweighted"`.
        negative_slope: slope of the LeakyReLU between the two.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape: `(batch, features)`; global maximum or average pooling comes before.

    Output shape: `(batch, labels)`, logits.

    Examples:
        >>> layer = LabelGraphClassifier([[0, 1], [0.5, 0]], node_features=np.eye(2), hidden=16)
        >>> layer(np.ones((8, 512))).shape  # logits of two labels
        TensorShape([8, 2])

    Reference:
        Chen et al., Multi-Label Image Recognition with Graph Convolutional Networks, CVPR 2019.
    """

    def __init__(
        self,
        graph: ArrayLike,
        node_features: ArrayLike,
        hidden: int = 1024,
        adjacency: Literal["reweighted", "normalized"] = "reweighted",
        neighbor_share: float = 0.2,
        negative_slope: float = 0.2,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.graph = graph_array(graph)
        self.node_features = node_array(node_features, len(self.graph))
        if not isinstance(hidden, int) or hidden < 1:
            raise ValueError(f"LabelGraphClassifier: expected hidden to be a positive integer, got {hidden!r}")
        if adjacency not in ("reweighted", "normalized"):
            raise ValueError(
                f"LabelGraphClassifier: expected adjacency to be reweighted or normalized, got {adjacency!r}"
            )
        if not 0 <= neighbor_share <= 1:
            raise ValueError(f"LabelGraphClassifier: expected neighbor_share in [0, 1], got {neighbor_share!r}")
        self.hidden = hidden
        self.adjacency = adjacency
        self.neighbor_share = neighbor_share
        self.negative_slope = negative_slope

    def build(self, input_shape: Any) -> None:
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(
                "LabelGraphClassifier: expected pooled features (batch, features) with a known number of features, got "
                f"{tuple(input_shape)}; pool the feature maps first"
            )
        if self.adjacency == "reweighted":
            adjacency = reweighted_adjacency(self.graph, self.neighbor_share)
        else:
            adjacency = normalized_adjacency(self.graph)
        self.graph_layers = []
        node_shape = self.node_features.shape
        for index, width in enumerate((self.hidden, input_shape[-1])):
            bound = width**-0.5  # as the published code begins
            layer = GraphConvolution(
                width,
                adjacency,
                normalize=False,
                use_bias=False,
                kernel_initializer=keras.initializers.RandomUniform(-bound, bound),
                dtype=self.variable_dtype,
                name=f"layer_{index}",
            )
            layer.build(node_shape)
            node_shape = (len(self.graph), width)
            self.graph_layers.append(layer)

    def call(self, inputs: Any) -> Any:
        first, second = self.graph_layers
        hidden = first(ops.convert_to_tensor(self.node_features, dtype=self.variable_dtype))
        classifiers = second(ops.leaky_relu(hidden, self.negative_slope))
        inputs = ops.cast(inputs, self.compute_dtype)
        return ops.matmul(inputs, ops.transpose(ops.cast(classifiers, self.compute_dtype)))

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (input_shape[0], len(self.graph))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "graph": as_lists(self.graph),
            "node_features": as_lists(self.node_features),
            "hidden": self.hidden,
            "adjacency": self.adjacency,
            "neighbor_share": self.neighbor_share,
            "negative_slope": self.negative_slope,
        }
