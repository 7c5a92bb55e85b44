"""ResNet-18, which keras.applications lacks, in torchvision's layout so that its published weights fit."""

import keras

NAME = "resnet18"


def resnet18(image_size: tuple[int, int], bands: int = 3) -> keras.Model:
    """Builds ResNet-18 without its classifier: 11,176,512 trainable parameters at 3 bands.

    Layers are called after torchvision's modules with `_` for `.` ("layer1_0_conv1"); padding is symmetric as there,
    not "same", which differs at stride 2.

    Args:
        image_size: Height and width.
        bands: Channels of the images, scaled as `Preprocess("torch")` does.

    Reference: He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    """
    image = keras.Input((*image_size, bands), name="scaled")
    x = _convolve(image, 64, 7, 2, "conv1", "bn1")
    x = keras.layers.ReLU(name="relu")(x)
    # After a ReLU a border of zeros is as good as PyTorch's border of minus infinity.
    x = keras.layers.ZeroPadding2D(1, name="maxpool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            x = _basic_block(x, width, 2 if stage > 1 and block == 0 else 1, f"layer{stage}_{block}")
    return keras.Model(image, x, name=NAME)


def _basic_block(x: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    shortcut = x
    if stride != 1 or x.shape[-1] != width:
        shortcut = _convolve(x, width, 1, stride, f"{name}_downsample_0", f"{name}_downsample_1")
    y = _convolve(x, width, 3, stride, f"{name}_conv1", f"{name}_bn1")
    y = keras.layers.ReLU(name=f"{name}_relu1")(y)
    y = _convolve(y, width, 3, 1, f"{name}_conv2", f"{name}_bn2")
    y = keras.layers.Add(name=f"{name}_add")([shortcut, y])
    return keras.layers.ReLU(name=f"{name}_out")(y)


def _convolve(x: keras.KerasTensor, width: int, kernel: int, stride: int, name: str, norm: str) -> keras.KerasTensor:
    if kernel > 1:
        x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    initializer = keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")
    x = keras.layers.Conv2D(width, kernel, stride, use_bias=False, kernel_initializer=initializer, name=name)(x)
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm)(x)


def hub_name(name: str) -> str:
    """Turns the layer names of keras-hub's `resnet_18_imagenet` into torchvision's."""
    if name in ("conv1_conv", "conv1_bn"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[name]
    stack, block, place, part = name.removeprefix("stack").replace("block", "").split("_")
    own = f"layer{int(stack) + 1}_{block}"
    if place == "0":
        return f"{own}_downsample_{0 if part == 'conv' else 1}"
    return f"{own}_{part}{place}"
