"""The wide head of VGG16, which two of the papers keep between its feature map and the classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsml.models.backbones import Backbone

NAMES = ("vgg_head_fc1", "vgg_head_fc2")
"""Its layers with weights."""


def is_vgg(name: str) -> bool:
    """Whether a backbone of that name is a VGG."""
    return "vgg" in name.lower()


def last_pooling(backbone: Backbone) -> str:
    """The name of the last max-pooling layer, where the feature map ends and the head begins."""
    import keras

    pools = [layer.name for layer in backbone.model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    return str(pools[-1])


def with_vgg_head(backbone: Backbone, width: int) -> Backbone:
    """Puts 7 x 7 average pooling and two dense layers with ReLU and dropout 0.5 behind the feature map.

    The first dense layer on the flattened 7 x 7 map is a convolution of that size, so that what follows still is a
    feature map, of one pixel, which any pooling leaves as it is. `vgg16_bn_mlp` has this head already, with weights.
    """
    if backbone.name.endswith("_mlp"):
        return backbone
    import keras

    from rsml.layers import AdaptiveAveragePool

    backbone = backbone.append(AdaptiveAveragePool(7, name="vgg_head_pool"))
    for name, kernel in zip(NAMES, (7, 1), strict=True):
        dense = keras.layers.Conv2D(width, kernel, activation="relu", kernel_initializer="he_normal", name=name)
        backbone = backbone.append(dense).append(keras.layers.Dropout(0.5, name=f"{name}_dropout"))
    return backbone
