"""SE-Net: channel attention that knows nothing of labels; the comparison SIGNA is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from rsml.methods.base import LabelContext, Method, Places

if TYPE_CHECKING:
    from rsml.models.backbones import Backbone


class SENet(Method):
    """Squeeze-and-excitation, inserted after any layers of the backbone.

    Attributes:
        after: Layers or stages to insert after; one block each.
        ratio: Channels over hidden units.

    Reference:
        Hu et al., Squeeze-and-Excitation Networks, CVPR 2018.
    """

    kind: Literal["se-net"] = "se-net"
    after: Places = ("stage1", "stage2", "stage3", "stage4")
    ratio: PositiveInt = 16
    tasks: ClassVar[tuple[str, ...]] = ("multi-label", "single-label", "proportions")

    def modify_backbone(self, backbone: Backbone, context: LabelContext) -> Backbone:
        from rsml.layers import SqueezeExcite

        for place in self.after:
            layer = SqueezeExcite(name=f"squeeze_excite_{place}", **self.arguments_for(SqueezeExcite))
            backbone = backbone.insert_after(place, layer)
        return backbone
