"""SIGNA: channel attention guided by the graph of label co-occurrence, inside the backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from rsml.graph import cooccurrence, threshold_graph, word_vectors
from rsml.methods.base import LabelContext, Method, Places
from rsml.utils.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from rsml.models.backbones import Backbone


class Signa(Method):
    """Semantic interleaving global channel attention, inserted after any layers of the backbone.

    Attributes:
        after: Layers or stages to insert after; one SIGNA each.
        heads: Interleavings side by side.
        gnn: Graph convolution that makes label features.
        depth: Its layers: widths channels / 2, then channels.
        threshold: `Q`: an edge stays where P(other label | label) is at least this.
        word_vectors: A GloVe text file, "one-hot", "random", or None for the built-in table.
        negative_slope: Of the LeakyReLU between graph layers.
        expansion: "shared" (the authors' code) or "full" (the paper's text).
        logit_scale: "sqrt" of the label count (the authors' code), or a number; 1 is the paper.
        residual: Keep the feature map beside the weighted one.
        evaluation: "exact", or "interpolated" for many channels.
        gnn_options: Further options of `GraphConvolution`. The authors' code, whose messages run against eq. 4:
            `{"reverse_edges": true}`, with "gcn" also `"edge_weights": false`; it has `negative_slope` 0.

    Reference:
        Liu et al., Semantic Interleaving Global Channel Attention for Multilabel Remote Sensing Image Classification.
    """

    kind: Literal["signa"] = "signa"
    after: Places = ("stage2",)
    heads: PositiveInt = 6
    gnn: Literal["gcn", "graphsage", "gat"] = "graphsage"
    depth: PositiveInt = 2
    threshold: float = Field(0.4, ge=0, le=1)
    word_vectors: str | None = None
    negative_slope: float = Field(0.2, ge=0)
    expansion: Literal["shared", "full"] = "shared"
    logit_scale: Literal["sqrt"] | float = "sqrt"
    residual: bool = True
    evaluation: Literal["exact", "interpolated"] = "exact"
    gnn_options: dict[Literal["reverse_edges", "edge_weights", "self_loops", "l2_normalize"], bool] = {}

    def modify_backbone(self, backbone: Backbone, context: LabelContext) -> Backbone:
        from rsml.layers import SIGNA

        graph = label_graph(self.kind, self.threshold, context)
        vectors = word_vectors(context.names, self.word_vectors, seed=context.seed)
        for place in self.after:
            layer = SIGNA(
                graph,
                vectors,
                heads=self.heads,
                gnn=self.gnn,
                depth=self.depth,
                negative_slope=self.negative_slope,
                expansion=self.expansion,
                logit_scale=None if self.logit_scale == "sqrt" else self.logit_scale,
                residual=self.residual,
                evaluation=self.evaluation,
                gnn_options=dict(self.gnn_options) or None,
                name=f"signa_{place}",
            )
            backbone = backbone.insert_after(place, layer)
        return backbone


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
