"""ResNets in torchvision's layout (stride in the 3 x 3 convolution), so that weights of torchvision and timm fit."""

from dataclasses import dataclass
from functools import partial

import keras

from rsml.models.blocks import Builder, add, batch_norm, convolve, relu, scaled_pixels


@dataclass(frozen=True)
class _Form:
    blocks: tuple[int, ...]
    bottleneck: bool = True
    inner: int = 64  # channels inside the blocks of the first stage


_FORMS = {
    "resnet18": _Form((2, 2, 2, 2), bottleneck=False),
    "resnet34": _Form((3, 4, 6, 3), bottleneck=False),
    "resnet50": _Form((3, 4, 6, 3)),
    "resnet101": _Form((3, 4, 23, 3)),
    "wide_resnet50_2": _Form((3, 4, 6, 3), inner=128),
}


def resnet(name: str, image_size: tuple[int, int], bands: int = 3) -> keras.Model:
    """Builds a ResNet without its classifier.

    Layers are called after torchvision's modules with `_` for `.` ("layer1_0_conv1"); padding is symmetric as there.

    Args:
        name: "resnet18", "resnet34", "resnet50", "resnet101" or "wide_resnet50_2".
        image_size: Height and width.
        bands: Channels of the images, scaled as `Preprocess("torch")` does.

    Examples:
        >>> resnet("resnet18", (64, 64)).output_shape
        (None, 2, 2, 512)

    Reference:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
        Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016.
    """
    form = _FORMS[name]
    image = scaled_pixels(image_size, bands)
    x = relu(batch_norm(convolve(image, 64, 7, 2, "conv1"), "bn1"), "relu")
    # After a ReLU a border of zeros is as good as PyTorch's border of minus infinity.
    x = keras.layers.ZeroPadding2D(1, name="maxpool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for stage, blocks in enumerate(form.blocks):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            x = _block(x, form, 2**stage, stride, f"layer{stage + 1}_{block}")
    return keras.Model(image, x, name=name)


def _block(x: keras.KerasTensor, form: _Form, factor: int, stride: int, name: str) -> keras.KerasTensor:
    inner = form.inner * factor
    # (kernel, width, stride) of each convolution
    if form.bottleneck:
        convolutions = [(1, inner, 1), (3, inner, stride), (1, 256 * factor, 1)]
    else:
        convolutions = [(3, inner, stride), (3, inner, 1)]
    width = convolutions[-1][1]
    shortcut = x
    if stride != 1 or x.shape[-1] != width:
        shortcut = batch_norm(convolve(x, width, 1, stride, f"{name}_downsample_0"), f"{name}_downsample_1")
    for place, (kernel, channels, step) in enumerate(convolutions, start=1):
        x = batch_norm(convolve(x, channels, kernel, step, f"{name}_conv{place}"), f"{name}_bn{place}")
        if place < len(convolutions):
            x = relu(x, f"{name}_relu{place}")
    return relu(add(shortcut, x, f"{name}_add"), f"{name}_out")


BUILDERS: dict[str, Builder] = {name: partial(resnet, name) for name in _FORMS}
