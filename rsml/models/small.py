"""A small residual network that learns from scratch, in minutes, on a processor."""

import keras

NAME = "small"
WIDTHS = (32, 64, 96, 128)


def small(image_size: tuple[int, int], bands: int = 3) -> keras.Model:
    """Builds the demo's network: one residual block at each of the strides 4, 8, 16 and 32, 0.48 M parameters.

    Made for images of 64 to 128 pixels. Batch normalisation follows the data quickly (momentum 0.9), since a short
    training has few steps. As in ResNet-D, shortcuts are averaged before they are widened, so that none of the pixels
    is skipped.

    Args:
        image_size: Height and width.
        bands: Channels of the images, scaled as `Preprocess("tf")` does.
    """
    image = keras.Input((*image_size, bands), name="scaled")
    x = _convolve(image, 24, 2, "stem")
    x = keras.layers.ReLU(name="stem_relu")(x)
    for stage, width in enumerate(WIDTHS, start=1):
        x = _block(x, width, f"block{stage}")
    return keras.Model(image, x, name=NAME)


def _block(x: keras.KerasTensor, width: int, name: str) -> keras.KerasTensor:
    shortcut = keras.layers.AveragePooling2D(2, padding="same", name=f"{name}_shortcut_pool")(x)
    shortcut = _convolve(shortcut, width, 1, f"{name}_shortcut", kernel=1)
    y = _convolve(x, width, 2, f"{name}_first")
    y = keras.layers.ReLU(name=f"{name}_relu")(y)
    y = _convolve(y, width, 1, f"{name}_second")
    y = keras.layers.Add(name=f"{name}_add")([shortcut, y])
    return keras.layers.ReLU(name=f"{name}_out")(y)


def _convolve(x: keras.KerasTensor, width: int, stride: int, name: str, kernel: int = 3) -> keras.KerasTensor:
    x = keras.layers.Conv2D(
        width, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
