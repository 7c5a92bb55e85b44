"""EfficientNet-Lite 0 to 4: EfficientNet without squeeze-and-excitation, ReLU6 for swish; quick on a processor."""

import math
from functools import partial
from typing import Any

import keras

from rsml.models.blocks import Builder, initializer, scaled_pixels

# (blocks, kernel, stride, expansion, width) of each stage of Lite0; others are wider and deeper.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Factors of width and depth.
_FORMS = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
    "efficientnet_lite3": (1.2, 1.4),
    "efficientnet_lite4": (1.4, 1.8),
}


def efficientnet_lite(name: str, image_size: tuple[int, int], bands: int = 3) -> keras.Model:
    """Builds an EfficientNet-Lite up to the 1280 channels before its pooling.

    Stem and head keep their widths, first and last stage their depth, in all five. Padding is TensorFlow's "same".
    Its makers trained it at 224, 240, 260, 280 and 300 pixels.

    Args:
        name: "efficientnet_lite0" to "efficientnet_lite4".
        image_size: Height and width.
        bands: Channels of the images, scaled as `Preprocess("lite")` does.

    Reference:
        Liu, Higher accuracy on vision models with EfficientNet-Lite, TensorFlow blog, 2020.
    """
    wider, deeper = _FORMS[name]
    image = scaled_pixels(image_size, bands)
    x = _convolve(image, 32, 3, 2, "stem_conv", "stem_bn")
    x = keras.layers.ReLU(6.0, name="stem_relu6")(x)
    block = 0
    for place, (blocks, kernel, stride, expansion, width) in enumerate(_STAGES):
        scaled = 0 < place < len(_STAGES) - 1
        for repeat in range(math.ceil(blocks * deeper) if scaled else blocks):
            x = _block(x, kernel, 1 if repeat else stride, expansion, _eights(width * wider), f"block{block}")
            block += 1
    x = _convolve(x, 1280, 1, 1, "head_conv", "head_bn")
    return keras.Model(image, keras.layers.ReLU(6.0, name="head_relu6")(x), name=name)


def _eights(width: float) -> int:
    """The nearest multiple of 8 that is not less than nine tenths of the width."""
    near = max(8, int(width + 4) // 8 * 8)
    return near + 8 if near < 0.9 * width else near


def _block(x: Any, kernel: int, stride: int, expansion: int, width: int, name: str) -> Any:
    y = x
    if expansion > 1:
        y = _convolve(y, expansion * x.shape[-1], 1, 1, f"{name}_expand", f"{name}_expand_bn")
        y = keras.layers.ReLU(6.0, name=f"{name}_expand_relu6")(y)
    y = keras.layers.DepthwiseConv2D(
        kernel, stride, "same", use_bias=False, depthwise_initializer=initializer(), name=f"{name}_dw"
    )(y)
    y = keras.layers.ReLU(6.0, name=f"{name}_dw_relu6")(_norm(y, f"{name}_dw_bn"))
    y = _convolve(y, width, 1, 1, f"{name}_project", f"{name}_project_bn")
    return keras.layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and x.shape[-1] == width else y


def _convolve(x: Any, width: int, kernel: int, stride: int, name: str, norm: str) -> Any:
    x = keras.layers.Conv2D(width, kernel, stride, "same", use_bias=False, kernel_initializer=initializer(), name=name)(
        x
    )
    return _norm(x, norm)


def _norm(x: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


BUILDERS: dict[str, Builder] = {name: partial(efficientnet_lite, name) for name in _FORMS}
