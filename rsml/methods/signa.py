"""SIGNA: channel attention guided by the graph of label co-occurrence, inside the backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rsml.graph import cooccurrence, threshold_graph, word_vectors
from rsml.methods.base import LabelContext, Method, Places
from rsml.methods.published_code import SLOW, PublishedCode
from rsml.methods.vgg_head import is_vgg, last_pooling
from rsml.utils.errors import UserError

if TYPE_CHECKING:
    import keras
    import numpy as np

    from rsml.models.backbones import Backbone


class Signa(Method):
    """Semantic interleaving global channel attention, inserted after any layers of the backbone.

    Attributes:
        after: Layers or stages to insert after; one SIGNA each.
        heads: Interleavings side by side.
        gnn: Graph convolution that makes label features.
        depth: Graph layers a head, of channels / 2 units but for the last, which has the channels; the paper has 2.
            One reaches a label's neighbours, two their neighbours too; more smooth all labels into one another.
        threshold: `Q`: an edge stays where P(other label | label) is at least this.
        word_vectors: "glove-300d", a GloVe text file, "one-hot", "random", or None for the built-in table.
        negative_slope: Of the LeakyReLU between graph layers.
        expansion: "shared" (the authors' code) or "full" (the paper's text).
        logit_scale: "sqrt" of the label count (the authors' code), or a number; 1 is the paper.
        residual: Keep the feature map beside the weighted one.
        evaluation: "exact", or "interpolated" for many channels.
        gnn_options: Further options of `GraphConvolution`. The authors' code, whose messages run against eq. 4:
            `{"reverse_edges": true}`, with "gcn" also `"edge_weights": false`; it has `negative_slope` 0.
        published_code: Do as the authors' code does, whatever the options above say: the direction of messages,
            unweighted edges, a label among its own neighbours, a ReLU between graph layers, one graph layer after
            stages 1 and 2 and two after later ones, the map from channels to labels at a tenth of the rate, the dense
            layer that joins the heads left at its random start, in a VGG after the last pooling; and what
            `PublishedCode` lists.

    Reference:
        Liu et al., Semantic Interleaving Global Channel Attention for Multilabel Remote Sensing Image Classification.
    """

    kind: Literal["signa"] = "signa"
    after: Places = ("stage2",)
    heads: int = Field(6, ge=1, le=256)
    gnn: Literal["gcn", "graphsage", "gat"] = "graphsage"
    depth: int = Field(2, ge=1, le=64)
    threshold: float = Field(0.4, ge=0, le=1)
    word_vectors: str | None = None
    negative_slope: float = Field(0.2, ge=0)
    expansion: Literal["shared", "full"] = "shared"
    logit_scale: Literal["sqrt"] | float = "sqrt"
    residual: bool = True
    evaluation: Literal["exact", "interpolated"] = "exact"
    gnn_options: dict[Literal["reverse_edges", "edge_weights", "self_loops", "l2_normalize"], bool] = {}
    published_code: bool = False

    def label_graph_threshold(self) -> float:
        return self.threshold

    def modify_backbone(self, backbone: Backbone, context: LabelContext) -> Backbone:
        from rsml.layers import SIGNA

        graph = label_graph(self.kind, self.threshold, context)
        vectors = word_vectors(context.names, self.word_vectors, seed=context.seed)
        published = self.published_code
        for place in (last_pooling(backbone),) if published and is_vgg(backbone.name) else self.after:
            options = self.arguments_for(SIGNA) | (self._published(place) if published else {})
            backbone = backbone.insert_after(place, SIGNA(graph, vectors, name=f"signa_{place}", **options))
        return backbone

    def companions(self) -> tuple[Method, ...]:
        return (PublishedCode(),) if self.published_code else ()

    def rates(self, network: keras.Model) -> dict[str, float]:
        from rsml.layers import SIGNA

        layers = [layer for layer in network.layers if isinstance(layer, SIGNA)] if self.published_code else []
        slow = ("q_weight", "q_bias", "v_weight", "v_bias")
        return {getattr(layer, name).path: SLOW for layer in layers for name in slow}

    def _published(self, place: str) -> dict[str, Any]:
        """The layer's options in the authors' code.

        Their graph keeps its diagonal. GCN and GAT count a label among its own neighbours anyway; GraphSAGE does so
        for that reason only.
        """
        by_kind = {"gcn": {"edge_weights": False}, "graphsage": {"self_loops": True}, "gat": {}}[self.gnn]
        return {
            "negative_slope": 0.0,
            "depth": 1 if place in ("stage1", "stage2") else 2,
            "join_trainable": False,
            "gnn_options": {"reverse_edges": True, **by_kind},
        }


def label_graph(kind: str, threshold: float, context: LabelContext) -> np.ndarray:
    """The thresholded label graph of the training part, for multi-label data of two labels or more."""
    if len(context.names) < 2:
        raise UserError(f"method '{kind}' needs a graph of labels, and the data has only '{context.names[0]}'")
    if context.task != "multi-label":
        raise UserError(
            f"method '{kind}' learns from labels that occur together; in single-label data none do; "
            "give multi-label data or another method"
        )
    return threshold_graph(cooccurrence(context.training_labels), threshold)
