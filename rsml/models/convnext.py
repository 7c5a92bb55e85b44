"""ConvNeXt in torchvision's layout: flat, with its names, so that weights of torchvision, timm and its makers fit."""

from functools import partial
from typing import Any

import keras

from rsml.models.blocks import Builder, add, layer_norm, patches, perceptron, scaled_pixels

_FORMS = {
    "convnext_tiny": ((3, 3, 9, 3), 96),
    "convnext_small": ((3, 3, 27, 3), 96),
    "convnext_base": ((3, 3, 27, 3), 128),
    "convnext_large": ((3, 3, 27, 3), 192),
}
_EPSILON = 1e-6


def convnext(name: str, image_size: tuple[int, int], bands: int = 3) -> keras.Model:
    """Builds a ConvNeXt without its classifier (whose first part is a normalisation of the pooled features).

    Layers are called after torchvision's modules with `_` for `.` ("features_1_0_block_0"). Keras's own, as
    "keras:ConvNeXtTiny", has the same numbers in other names and ends in a normalisation.

    Args:
        name: "convnext_tiny", "convnext_small", "convnext_base" or "convnext_large".
        image_size: Height and width.
        bands: Channels of the images, scaled as `Preprocess("torch")` does.

    Reference:
        Liu et al., A ConvNet for the 2020s, CVPR 2022.
    """
    blocks, width = _FORMS[name]
    image = scaled_pixels(image_size, bands)
    x = layer_norm(patches(image, width, 4, "features_0_0"), "features_0_1", _EPSILON)
    for stage, count in enumerate(blocks):
        if stage:
            x = layer_norm(x, f"features_{2 * stage}_0", _EPSILON)
            x = patches(x, width * 2**stage, 2, f"features_{2 * stage}_1")
        for block in range(count):
            x = _block(x, f"features_{2 * stage + 1}_{block}")
    return keras.Model(image, x, name=name)


def _block(x: Any, name: str) -> Any:
    y = keras.layers.DepthwiseConv2D(7, padding="same", name=f"{name}_block_0")(x)
    y = layer_norm(y, f"{name}_block_2", _EPSILON)
    y = perceptron(y, 4 * x.shape[-1], (f"{name}_block_3", f"{name}_block_5"))
    return add(x, y, f"{name}_add", scale=(f"{name}_layer_scale", 1e-6))


BUILDERS: dict[str, Builder] = {name: partial(convnext, name) for name in _FORMS}
