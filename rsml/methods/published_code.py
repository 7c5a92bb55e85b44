"""What SIGNA's published code does to every network, its plain baseline included, and its paper does not say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt

from rsml.methods.base import LabelContext, Method
from rsml.methods.vgg_head import NAMES, is_vgg, with_vgg_head

if TYPE_CHECKING:
    import keras

    from rsml.models.backbones import Backbone

SLOW = 0.1
"""The rate of what the published code trains slowly, as a fraction of the others'."""


class PublishedCode(Method):
    """The faults of a published code that its figures depend on, so that their effect can be measured.

    - The last dense layer stays at its random start (PyTorch's default: uniform within 1 / sqrt(inputs)), since no
      group of the optimizer holds it. Only a VGG's learns: its head of two wide layers and the classifier are part of
      the backbone there, at a tenth of the rate.
    - A label is present where its logit, not its probability, is above 0.5: probability 0.62.
    - The backbone learns at a tenth of the rate, whatever its start.
    - The last epoch is tested, not the one that validates best.

    `model.published_code=true` adds it to any experiment, `methods.signa.published_code=true` to SIGNA with what the
    code does inside SIGNA.

    Attributes:
        width: Units of a VGG's two wide layers.
    """

    kind: Literal["published-code"] = "published-code"
    tasks: ClassVar[tuple[str, ...]] = ("multi-label",)
    replaces_logits: ClassVar[bool] = True
    takes_last_epoch: ClassVar[bool] = True
    backbone_rate: ClassVar[float | None] = SLOW
    decision_threshold: ClassVar[float | None] = 1 / (1 + math.exp(-0.5))
    width: PositiveInt = 4096

    def extend_backbone(self, backbone: Backbone, context: LabelContext) -> Backbone:
        return with_vgg_head(backbone, self.width) if is_vgg(backbone.name) else backbone

    def logits(self, features: Any, context: LabelContext) -> Any:
        import keras

        bound = features.shape[-1] ** -0.5
        dense = keras.layers.Dense(
            len(context.names),
            kernel_initializer=keras.initializers.RandomUniform(-bound, bound),
            bias_initializer=keras.initializers.RandomUniform(-bound, bound),
            trainable=is_vgg(context.backbone),
            name="logits",
            dtype="float32",
        )
        return dense(features)

    def rates(self, network: keras.Model) -> dict[str, float]:
        # Where the classifier does not learn, its rate is of no account.
        slow = [layer for layer in network.layers if layer.name in (*NAMES, "logits")]
        return {weight.path: SLOW for layer in slow for weight in layer.weights}
