"""VGG16 with batch normalisation in torchvision's layout, which Keras lacks."""

import keras

from rsml.models.blocks import Builder, batch_norm, convolve, relu, scaled_pixels

_WIDTHS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool")


def vgg16_bn(image_size: tuple[int, int], bands: int = 3) -> keras.Model:
    """Builds VGG16 with batch norms up to its last pooling; stride 32.

    Layers are called after torchvision's modules: "features_0" is the first convolution, "features_43" the last
    pooling.

    Args:
        image_size: Height and width.
        bands: Channels of the images, scaled as `Preprocess("torch")` does.

    Reference:
        Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015.
    """
    image = x = scaled_pixels(image_size, bands)
    place = 0
    for width in _WIDTHS:
        if width == "pool":
            x = keras.layers.MaxPooling2D(2, 2, name=f"features_{place}")(x)
            place += 1
        else:
            x = convolve(x, width, 3, 1, f"features_{place}", bias=True)
            x = relu(batch_norm(x, f"features_{place + 1}"), f"features_{place + 2}")
            place += 3
    return keras.Model(image, x, name="vgg16_bn")


BUILDERS: dict[str, Builder] = {"vgg16_bn": vgg16_bn}
