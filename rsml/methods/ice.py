"""ICE: the classifier and the loss of Bahri et al., on any backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from rsml.methods.base import LabelContext, Method
from rsml.methods.objectives import ImprovedCrossEntropy
from rsml.utils.errors import UserError

if TYPE_CHECKING:
    from rsml.models.backbones import Backbone

Dropout = Annotated[float, Field(ge=0, lt=1)]


class ICE(Method):
    """Squeeze-and-excitation, a max-pool of stride 1, then a deep linear classifier trained by improved cross-entropy.

    Behind the backbone come squeeze-and-excitation and the max-pool; behind the global pooling (`model.pooling`, the
    average) a dropout before each of the inner dense layers and before the logits. The inner layers are linear.

    Single-label data is trained by `improved-cross-entropy` unless the experiment names another objective. The loss is
    not defined for multi-label data, where the same network is trained by binary cross entropy.

    Attributes:
        ratio: Channels over hidden units of squeeze-and-excitation.
        pool: Side of the max-pool, the smallest feature map that works; 1 leaves the pool out.
        widths: Units of the inner dense layers.
        dropouts: Fractions dropped before each inner layer and before the logits.

    Reference:
        Bahri et al., Remote Sensing Image Classification via Improved Cross-Entropy Loss and Transfer Learning Strategy
        Based on Deep Convolutional Neural Networks, GRSL 2019.
    """

    takes_mixed_labels: ClassVar[bool] = False
    kind: Literal["ice"] = "ice"
    ratio: PositiveInt = 6
    pool: PositiveInt = 4
    widths: tuple[PositiveInt, ...] = (728, 256)
    dropouts: tuple[Dropout, ...] = (0.4, 0.3, 0.2)
    replaces_logits: ClassVar[bool] = True

    @model_validator(mode="after")
    def _dropout_before_each(self) -> ICE:
        if len(self.dropouts) != len(self.widths) + 1:
            raise ValueError(
                f"method 'ice' has {len(self.widths)} widths and {len(self.dropouts)} dropouts; give one dropout "
                f"before each width and one before the logits, {len(self.widths) + 1} in all (0 drops nothing)"
            )
        return self

    def extend_backbone(self, backbone: Backbone, context: LabelContext) -> Backbone:
        import keras

        from rsml.layers import SqueezeExcite

        self._refuse_small_maps(backbone)
        own: dict[str, Any] = {"use_bias": False, "kernel_initializer": "he_normal", "name": "ice_squeeze_excite"}
        backbone = backbone.append(SqueezeExcite(**self.arguments_for(SqueezeExcite), **own))
        if self.pool == 1:
            return backbone
        return backbone.append(keras.layers.MaxPooling2D(self.pool, strides=1, name="ice_max_pool"))

    def logits(self, features: Any, context: LabelContext) -> Any:
        import keras

        x = features
        for number, (rate, width) in enumerate(zip(self.dropouts, (*self.widths, None), strict=True), start=1):
            if rate:
                x = keras.layers.Dropout(rate, name=f"ice_dropout{number}")(x)
            if width:
                x = keras.layers.Dense(width, name=f"ice_dense{number}")(x)
        return keras.layers.Dense(len(context.names), name="logits", dtype="float32")(x)

    def objective(self, task: str) -> ImprovedCrossEntropy | None:
        return ImprovedCrossEntropy() if task == "single-label" else None

    def _refuse_small_maps(self, backbone: Backbone) -> None:
        from rsml.models.backbones import smallest_image_size

        height, width = backbone.model.output_shape[1:3]
        if min(height, width) >= self.pool:
            return
        image = " x ".join(str(side) for side in backbone.model.input_shape[1:3])
        size = smallest_image_size(backbone, self.pool)
        raise UserError(
            f"method 'ice' pools {self.pool} x {self.pool} features, and {backbone.name} makes {height} x {width} of "
            f"{image} pixels; raise data.image_size{f' to {size} or more' if size else ''}, or set "
            f"methods.ice.pool={min(height, width)}"
        )
