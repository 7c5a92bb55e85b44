"""VGG16 with batch normalisation in torchvision's layout, which Keras lacks; with its two wide layers if wanted."""

from functools import partial
from typing import Any

import keras

from rsml.layers.adaptive_pool import AdaptiveAveragePool
from rsml.models.blocks import Builder, batch_norm, convolve, relu, scaled_pixels

_POOL = 0
_WIDTHS = (64, 64, _POOL, 128, 128, _POOL, 256, 256, 256, _POOL, 512, 512, 512, _POOL, 512, 512, 512, _POOL)


def vgg16_bn(name: str, image_size: tuple[int, int], bands: int = 3) -> keras.Model:
    """Builds VGG16 with batch norms up to its last pooling ("features_43"), or on to its 4096 features.

    Layers are called after torchvision's modules: "features_0" is the first convolution. "vgg16_bn_mlp" goes on with
    torchvision's classifier up to its last layer, as convolutions of 7 x 7 and 1 x 1, so that ImageNet's weights of
    both wide layers are kept. Its feature map is of 1 x 1, and what is pooled and ranked (R4C) are these 4096 features.

    Args:
        name: "vgg16_bn" or "vgg16_bn_mlp".
        image_size: Height and width.
        bands: Channels of the images, scaled as `Preprocess("torch")` does.

    Reference:
        Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015.
    """
    image = x = scaled_pixels(image_size, bands)
    place = 0
    for width in _WIDTHS:
        if width == _POOL:
            x = keras.layers.MaxPooling2D(2, 2, name=f"features_{place}")(x)
            place += 1
        else:
            x = convolve(x, width, 3, 1, f"features_{place}", bias=True)
            x = relu(batch_norm(x, f"features_{place + 1}"), f"features_{place + 2}")
            place += 3
    return keras.Model(image, _wide(x) if name.endswith("_mlp") else x, name=name)


def _wide(x: Any) -> Any:
    x = AdaptiveAveragePool(7, name="avgpool")(x)
    for place, kernel in ((0, 7), (3, 1)):
        normal = keras.initializers.RandomNormal(stddev=0.01)
        x = keras.layers.Conv2D(4096, kernel, kernel_initializer=normal, name=f"classifier_{place}")(x)
        x = keras.layers.Dropout(0.5, name=f"classifier_{place + 2}")(relu(x, f"classifier_{place + 1}"))
    return x


BUILDERS: dict[str, Builder] = {name: partial(vgg16_bn, name) for name in ("vgg16_bn", "vgg16_bn_mlp")}
