"""R4C: labels, images and features put in the right order, by three losses that learn to rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from rsml.methods.base import LabelContext, Method, Term
from rsml.methods.objectives import NoObjective
from rsml.methods.vgg_head import with_vgg_head

if TYPE_CHECKING:
    import keras

    from rsml.models.backbones import Backbone


class R4C(Method):
    """Three rankings in place of cross entropy: feature + ranking_weight * (label + sample), sums as published.

    The labels of an image should be ranked by presence, the images of a batch by presence of each label, and the
    images around an image by the labels they share. Virtual neutral labels and images, with fixed scores around 0.5,
    make 0.5 the threshold that is learned. Single-label data counts as multi-label data with one label an image; the
    saved model's probabilities are a softmax then, whose order is the learned one.

    Attributes:
        ranking_weight: The paper's lambda, weight of label and sample ranking; 0 leaves them out.
        feature_weight: Weight of feature ranking; 0 leaves it out.
        label_alpha: Steepness of the approximate ranks of labels.
        sample_alpha: Steepness of the approximate ranks of images under a label.
        feature_alpha: Steepness of the approximate ranks of images by distance.
        neutral_labels: Virtual neutral labels an image.
        neutral_label_range: Their scores reach from 0.5 less this to 0.5 plus this.
        neutral_samples: Virtual neutral images a label.
        neutral_sample_range: As `neutral_label_range`.
        head: What stands between feature map and classifier: "pooled" features, or the "vgg" head of the authors' VGG16
            (average pooling to 7 x 7, two dense layers with ReLU and dropout), whose output is what is ranked too.
        head_width: Units of these dense layers.

    Reference:
        Huang et al., Learning to Rank for Multilabel Aerial Image Classification.
    """

    takes_mixed_labels: ClassVar[bool] = False
    kind: Literal["r4c"] = "r4c"
    ranking_weight: NonNegativeFloat = 1.0
    feature_weight: NonNegativeFloat = 1.0
    label_alpha: float = Field(100.0, gt=0)
    sample_alpha: float = Field(100.0, gt=0)
    feature_alpha: float = Field(10.0, gt=0)
    neutral_labels: NonNegativeInt = 4
    neutral_label_range: float = Field(0.1, ge=0, le=0.5)
    neutral_samples: NonNegativeInt = 16
    neutral_sample_range: float = Field(0.1, ge=0, le=0.5)
    head: Literal["pooled", "vgg"] = "pooled"
    head_width: PositiveInt = 4096

    @model_validator(mode="after")
    def _ranks_something(self) -> R4C:
        if not self.ranking_weight and not self.feature_weight:
            raise ValueError("method 'r4c' has ranking_weight 0 and feature_weight 0; nothing would be learned")
        return self

    def check(self, batch_size: int) -> None:
        if self.feature_weight and batch_size == 1:
            raise ValueError(
                "method 'r4c' ranks the images of a batch by their distance to each other, and with "
                "training.batch_size=1 there is nothing to rank; raise it, or set methods.r4c.feature_weight=0"
            )

    def extend_backbone(self, backbone: Backbone, context: LabelContext) -> Backbone:
        return with_vgg_head(backbone, self.head_width) if self.head == "vgg" else backbone

    def objective(self, task: str) -> NoObjective:
        return NoObjective()

    def terms(self, context: LabelContext) -> list[Term]:
        from rsml.losses import FeatureRanking, LabelRanking, SampleRanking

        terms: list[Term] = []
        if self.feature_weight:
            terms.append(RankingTerm(FeatureRanking(self.feature_alpha, "sum"), "features", self.feature_weight))
        if self.ranking_weight:
            by_label = LabelRanking(True, self.label_alpha, self.neutral_labels, self.neutral_label_range, "sum")
            by_sample = SampleRanking(True, self.sample_alpha, self.neutral_samples, self.neutral_sample_range, "sum")
            terms += [RankingTerm(loss, "logits", self.ranking_weight) for loss in (by_label, by_sample)]
        return terms


class RankingTerm(Term):
    """One ranking loss of one output of the network.

    Args:
        loss: From labels and that output to a scalar.
        output: Name of the output.
        weight: Factor of the loss.
    """

    def __init__(self, loss: keras.losses.Loss, output: str, weight: float) -> None:
        self.name, self.loss, self.output, self.weight = loss.name, loss, output, weight

    def __call__(self, labels: Any, index: Any, outputs: Mapping[str, Any]) -> Any:
        return self.weight * self.loss(labels, outputs[self.output])
