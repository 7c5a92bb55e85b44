"""Vision Transformers that end in a map of patches, in timm's layout: supervised, MAE, DINO, DINOv2 and DINOv3."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from rsml.layers.attention import SelfAttention
from rsml.layers.tokens import MapToTokens, Tokens, TokensToMap
from rsml.models.blocks import Builder, add, layer_norm, patches, perceptron, scaled_pixels


@dataclass(frozen=True)
class _Form:
    width: int
    blocks: int
    patch: int
    registers: int = 0
    scaled: bool = False  # LayerScale behind each branch
    rotary: bool = False  # rotary positions, none learned
    epsilon: float = 1e-6


_SIZES = {"s": (384, 12), "b": (768, 12), "l": (1024, 24)}


def _forms() -> dict[str, _Form]:
    forms: dict[str, _Form] = {}
    for size, (width, blocks) in _SIZES.items():
        name = f"vit_{size}"
        forms |= {f"{name}_{patch}": _Form(width, blocks, patch) for patch in (8, 14, 16, 32)}
        forms[f"{name}_14_dinov2"] = _Form(width, blocks, 14, scaled=True)
        forms[f"{name}_14_dinov2_reg4"] = _Form(width, blocks, 14, registers=4, scaled=True)
        forms[f"{name}_16_dinov3"] = _Form(width, blocks, 16, registers=4, scaled=True, rotary=True, epsilon=1e-5)
    return forms


_FORMS = _forms()


def vit(name: str, image_size: tuple[int, int], bands: int = 3) -> keras.Model:
    """Builds a Vision Transformer whose last tokens are laid out as a map.

    The class token (and the registers) take part in every attention and are left out at the end: the feature map is
    that of the patches, normalised. A quarter of the blocks is a stage; where one ends, the patches are laid out as the
    map "stage1_map" and put back, so that a layer inserted there sees a map while class token and registers go around
    it. Heads are 64 channels wide. Images of any size: rows and columns that fill no patch are left out.

    Args:
        name: "vit_b_16" and so on: s, b or l and the side of a patch (8, 14, 16, 32); with "_dinov2", "_dinov2_reg4"
            or "_dinov3" the forms of those.
        image_size: Height and width.
        bands: Channels of the images, scaled as `Preprocess("torch")` does.

    Reference:
        Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021. Oquab et al., DINOv2, TMLR 2024.
        Darcet et al., Vision Transformers Need Registers, ICLR 2024. Simeoni et al., DINOv3, 2025.
    """
    form = _FORMS[name]
    image = scaled_pixels(image_size, bands)
    grid = patches(image, form.width, form.patch, "patch_embed_proj")
    x = Tokens(form.registers, positions=not form.rotary, name="token_embed")(grid)
    for block in range(form.blocks):
        x = _block(x, grid, form, f"blocks_{block}")
        stage, rest = divmod(4 * (block + 1), form.blocks)
        if not rest and stage < 4:
            laid_out = TokensToMap(name=f"stage{stage}_map")([x, grid])
            x = MapToTokens(stage, name=f"stage{stage}_tokens")([x, laid_out])
    return keras.Model(image, layer_norm(TokensToMap(name="map")([x, grid]), "norm", form.epsilon), name=name)


def _block(x: Any, grid: Any, form: _Form, name: str) -> Any:
    y = layer_norm(x, f"{name}_norm1", form.epsilon)
    attention = SelfAttention(form.width // 64, form.rotary, name=f"{name}_attn")
    y = attention([y, grid] if form.rotary else y)
    x = add(x, y, f"{name}_add1", (f"{name}_ls1", 1e-5) if form.scaled else None)
    y = perceptron(layer_norm(x, f"{name}_norm2", form.epsilon), 4 * form.width, (f"{name}_mlp_fc1", f"{name}_mlp_fc2"))
    return add(x, y, f"{name}_add2", (f"{name}_ls2", 1e-5) if form.scaled else None)


BUILDERS: dict[str, Builder] = {name: partial(vit, name) for name in _FORMS}


def patch_of(name: str) -> int:
    """The side of a network's patches."""
    return _FORMS[name].patch
