"""ML-GCN: a graph network over the labels makes the classifiers of the pooled feature."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from rsml.graph import word_vectors
from rsml.methods.base import LabelContext, Method
from rsml.methods.signa import label_graph


class MLGCN(Method):
    """Classifiers from a two-layer GCN over the label graph, in place of the dense layer.

    Attributes:
        pool: Pooling of the feature map; the paper takes the maximum.
        hidden: Width of the first graph layer.
        threshold: An edge stays where P(other label | label) is at least this.
        adjacency: "reweighted" (the paper) or "normalized" (SIGNA's eq. 4).
        neighbor_share: What a label's neighbours have of it together, if reweighted.
        word_vectors: "glove-300d", a GloVe text file, "one-hot", "random", or None for the built-in table.

    Reference:
        Chen et al., Multi-Label Image Recognition with Graph Convolutional Networks, CVPR 2019.
    """

    kind: Literal["ml-gcn"] = "ml-gcn"
    pool: Literal["max", "average"] = "max"
    hidden: PositiveInt = 1024
    threshold: float = Field(0.4, ge=0, le=1)
    adjacency: Literal["reweighted", "normalized"] = "reweighted"
    neighbor_share: float = Field(0.2, ge=0, le=1)
    word_vectors: str | None = None
    replaces_logits: ClassVar[bool] = True

    def label_graph_threshold(self) -> float:
        return self.threshold

    def pooling(self) -> str:
        return self.pool

    def logits(self, features: Any, context: LabelContext) -> Any:
        from rsml.layers import LabelGraphClassifier

        layer = LabelGraphClassifier(
            label_graph(self.kind, self.threshold, context),
            word_vectors(context.names, self.word_vectors, seed=context.seed),
            name="logits",
            **self.arguments_for(LabelGraphClassifier),
        )
        return layer(features)
