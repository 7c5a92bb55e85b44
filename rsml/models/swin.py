"""Swin Transformers, both versions, in torchvision's layout; maps stay maps all the way."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from rsml.layers import MergeNeighbors, WindowAttention
from rsml.models.blocks import Builder, add, layer_norm, patches, perceptron, scaled_pixels


@dataclass(frozen=True)
class _Form:
    width: int
    blocks: tuple[int, ...]
    heads: int
    second: bool = False


_FORMS = {
    "swin_t": _Form(96, (2, 2, 6, 2), 3),
    "swin_s": _Form(96, (2, 2, 18, 2), 3),
    "swin_b": _Form(128, (2, 2, 18, 2), 4),
    "swin_v2_t": _Form(96, (2, 2, 6, 2), 3, second=True),
    "swin_v2_s": _Form(96, (2, 2, 18, 2), 3, second=True),
    "swin_v2_b": _Form(128, (2, 2, 18, 2), 4, second=True),
}
_EPSILON = 1e-5


def swin(name: str, image_size: tuple[int, int], bands: int = 3) -> keras.Model:
    """Builds a Swin Transformer with its last normalisation and without its classifier.

    Layers are called after torchvision's modules with `_` for `.` ("features_1_0_attn"). Images of any size: rows and
    columns that fill no patch of 4 x 4 are left out, maps are padded to whole windows (7 x 7; version 2: 8 x 8).

    Args:
        name: "swin_t", "swin_s", "swin_b", or "swin_v2_t", "swin_v2_s", "swin_v2_b".
        image_size: Height and width.
        bands: Channels of the images, scaled as `Preprocess("torch")` does.

    Reference:
        Liu et al., Swin Transformer, ICCV 2021, and Swin Transformer V2, CVPR 2022.
    """
    form = _FORMS[name]
    image = scaled_pixels(image_size, bands)
    x = layer_norm(patches(image, form.width, 4, "features_0_0"), "features_0_2", _EPSILON)
    for stage, blocks in enumerate(form.blocks):
        if stage:
            x = _merge(x, form, f"features_{2 * stage}")
        for block in range(blocks):
            x = _block(x, form, form.heads * 2**stage, block % 2, f"features_{2 * stage + 1}_{block}")
    return keras.Model(image, layer_norm(x, "norm", _EPSILON), name=name)


def _block(x: Any, form: _Form, heads: int, shifted: int, name: str) -> Any:
    window = 8 if form.second else 7
    attention = WindowAttention(heads, window, shifted * (window // 2), form.second, name=f"{name}_attn")

    def normed(y: Any, place: str) -> Any:
        return layer_norm(y, f"{name}_{place}", _EPSILON)

    def mixed(y: Any) -> Any:
        return perceptron(y, 4 * y.shape[-1], (f"{name}_mlp_0", f"{name}_mlp_3"))

    # The second version normalises behind each branch, the first before it.
    if form.second:
        x = add(x, normed(attention(x), "norm1"), f"{name}_add1")
        return add(x, normed(mixed(x), "norm2"), f"{name}_add2")
    x = add(x, attention(normed(x, "norm1")), f"{name}_add1")
    return add(x, mixed(normed(x, "norm2")), f"{name}_add2")


def _merge(x: Any, form: _Form, name: str) -> Any:
    """Halves a map: four neighbours become one of twice the channels."""
    channels = x.shape[-1]
    x = MergeNeighbors(name=f"{name}_neighbors")(x)
    if not form.second:
        x = layer_norm(x, f"{name}_norm", _EPSILON)
    x = keras.layers.Dense(2 * channels, use_bias=False, name=f"{name}_reduction")(x)
    return layer_norm(x, f"{name}_norm", _EPSILON) if form.second else x


BUILDERS: dict[str, Builder] = {name: partial(swin, name) for name in _FORMS}
