"""The names in PyTorch state files: which layout a file has, and what its parameters are called in our networks.

Our layers are called as modules of torchvision (ResNet, VGG, Swin, ConvNeXt) or timm (ViT), with `_` for `.`, and
EfficientNet-Lite by its own names. Each other layout is a row of `LAYOUTS`: the keys that give it away, and renaming
rules. What a wrapper put in front ("module.", "backbone.", "encoder_q.") is whatever stands before these keys.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_Rule = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Layout:
    """How one project calls the parameters of a family of networks.

    Args:
        markers: Keys that every file of this layout has, behind a common prefix.
        rules: Regular expressions and what stands for them in our names, tried in order on every key, each on the
            result of those before.
    """

    markers: tuple[str, ...]
    rules: tuple[_Rule, ...] = ()


def _stage(place: int) -> Callable[[re.Match[str]], str]:
    """`<name>.<stage>.` as the module of torchvision's `features`, which counts what lies between stages, too."""
    return lambda found: f"features.{2 * int(found[1]) + place}."


_SWIN = (
    (r"^patch_embed\.proj\.", "features.0.0."),
    (r"^patch_embed\.norm\.", "features.0.2."),
    (r"^layers\.(\d)\.blocks\.", _stage(1)),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
)
_CONVNEXT = (
    (r"(\.\d+)\.(?:dwconv|conv_dw)\.", r"\1.block.0."),
    (r"^(features\.[1357]\.\d+)\.norm\.", r"\1.block.2."),
    (r"\.(?:pwconv1|mlp\.fc1)\.", ".block.3."),
    (r"\.(?:pwconv2|mlp\.fc2)\.", ".block.5."),
    (r"\.(?:gamma|layer_scale)$", ".layer_scale.gamma"),
)
_VIT = (
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # DINOv2's blocks in chunks, counted through
    (r"\.gamma_([12])$", r".ls\1.gamma"),
    (r"^(cls_token|pos_embed|reg_token)$", r"token_embed.\1"),
    (r"^(?:register_tokens|storage_tokens)$", "token_embed.reg_token"),
)
_LITE = {"expand_conv": "expand", "depthwise_conv": "dw", "project_conv": "project"}
_LITE |= {"bn0": "expand_bn", "bn1": "dw_bn", "bn2": "project_bn"}
_TIMM_LITE = {"conv_pw": "expand", "conv_dw": "dw", "conv_pwl": "project"}
_TIMM_LITE |= {"bn1": "expand_bn", "bn2": "dw_bn", "bn3": "project_bn"}
_TIMM_LITE_FIRST = {"conv_dw": "dw", "bn1": "dw_bn", "conv_pw": "project", "bn2": "project_bn"}

LAYOUTS: dict[str, Layout] = {
    "ResNet": Layout(("conv1.weight", "layer1.0.conv1.weight", "layer4.0.conv1.weight")),
    "VGG with batch norms": Layout(("features.0.weight", "features.1.running_mean")),
    "torchvision's Swin": Layout(("features.0.0.weight", "features.1.0.attn.qkv.weight")),
    "Swin as its makers and old timm have it": Layout(
        ("patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight", "layers.0.downsample.reduction.weight"),
        ((r"^layers\.(\d)\.downsample\.", _stage(2)), *_SWIN),
    ),
    "timm's Swin": Layout(
        ("patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight", "layers.1.downsample.reduction.weight"),
        ((r"^layers\.(\d)\.downsample\.", _stage(0)), *_SWIN),
    ),
    "torchvision's ViT": Layout(
        ("class_token", "conv_proj.weight", "encoder.pos_embedding"),
        (
            (r"^class_token$", "token_embed.cls_token"),
            (r"^encoder\.pos_embedding$", "token_embed.pos_embed"),
            (r"^conv_proj\.", "patch_embed.proj."),
            (r"^encoder\.ln\.", "norm."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
            (r"\.ln_([12])\.", r".norm\1."),
            (r"\.self_attention\.in_proj_", ".attn.qkv."),
            (r"\.self_attention\.out_proj\.", ".attn.proj."),
            (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
            (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
        ),
    ),
    "ViT": Layout(("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"), _VIT[1:]),
    "ViT in chunks": Layout(("patch_embed.proj.weight", "blocks.0.0.attn.qkv.weight"), _VIT),
    "torchvision's ConvNeXt": Layout(("features.0.0.weight", "features.1.0.layer_scale"), _CONVNEXT[-1:]),
    "timm's ConvNeXt": Layout(
        ("stem.0.weight", "stages.0.blocks.0.conv_dw.weight"),
        (
            (r"^stem\.", "features.0."),
            (r"^stages\.(\d)\.downsample\.", _stage(0)),
            (r"^stages\.(\d)\.blocks\.", _stage(1)),
            *_CONVNEXT,
        ),
    ),
    "ConvNeXt as its makers have it": Layout(
        ("downsample_layers.0.0.weight", "stages.0.0.dwconv.weight"),
        ((r"^downsample_layers\.(\d)\.", _stage(0)), (r"^stages\.(\d)\.", _stage(1)), *_CONVNEXT),
    ),
    "EfficientNet-Lite": Layout(
        ("_conv_stem.weight", "_blocks.0._depthwise_conv.weight"),
        (
            (r"^_conv_stem\.", "stem_conv."),
            (r"^_bn0\.", "stem_bn."),
            (r"^_conv_head\.", "head_conv."),
            (r"^_bn1\.", "head_bn."),
            (r"^_blocks\.(\d+)\._(\w+)\.", lambda found: f"block{found[1]}_{_LITE.get(found[2], found[2])}."),
        ),
    ),
    "timm's EfficientNet-Lite": Layout(
        ("conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.1.0.conv_pwl.weight"),
        (
            (r"^conv_stem\.", "stem_conv."),
            (r"^bn1\.", "stem_bn."),
            (r"^conv_head\.", "head_conv."),
            (r"^bn2\.", "head_bn."),
            (r"^blocks\.0\.(\w+)\.", lambda found: f"block0_{_TIMM_LITE_FIRST.get(found[1], found[1])}."),
            (r"^blocks\.(\d+)\.(\w+)\.", lambda found: f"block{found[1]}_{_TIMM_LITE.get(found[2], found[2])}."),
        ),
    ),
}

# Two copies of a network in one file: the one that its makers say to use.
_PREFERRED = ("teacher", "ema", "encoder_q", "base_encoder", "backbone")
# What no network here keeps: counters, and tables that follow from the form.
_DERIVED = {
    "num_batches_tracked",
    "relative_position_index",
    "relative_coords_table",
    "attn_mask",
    "bias_mask",
    "periods",
}
# The order of arrays in a layer; a layer's variables are made in this order.
_ORDER = (
    "weight", "bias", "running_mean", "running_var",
    "qkv_weight", "qkv_bias", "proj_weight", "proj_bias", "relative_position_bias_table",
    "logit_scale", "cpb_mlp_0_weight", "cpb_mlp_0_bias", "cpb_mlp_2_weight",
    "cls_token", "pos_embed", "reg_token",
)  # fmt: skip


def keras_layers(state: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Turns a state into layers: name -> arrays in the order and with the axes of a Keras layer.

    Args:
        state: Parameter name, with dots, to array.

    Examples:
        >>> keras_layers({"module.layer1.0.conv1.weight": np.zeros((8, 4, 3, 3))})["layer1_0_conv1"][0].shape
        (3, 3, 4, 8)
    """
    modules: dict[str, dict[str, np.ndarray]] = {}
    for key, value in _our_names(state).items():
        module, _, part = key.rpartition(".")
        if part not in _DERIVED:
            modules.setdefault(module or part, {})[part] = value
    layers = {}
    for module, parts in modules.items():
        if module.endswith(".attn") and "qkv_weight" in parts:
            _complete_bias(parts)
        known = sorted(parts, key=lambda part: _ORDER.index(part) if part in _ORDER else len(_ORDER))
        layers[module.replace(".", "_")] = [_keras_axes(part, parts[part]) for part in known]
    return layers


def layout_of(state: dict[str, np.ndarray]) -> tuple[str, str] | None:
    """The name of a state's layout in `LAYOUTS` and the prefix of its keys; None where it is not known."""
    for name, layout in LAYOUTS.items():
        first = layout.markers[0]
        prefixes = [key.removesuffix(first) for key in state if key == first or key.endswith(f".{first}")]
        found = [prefix for prefix in prefixes if all(prefix + marker in state for marker in layout.markers)]
        if found:
            rank = {word: place for place, word in enumerate(_PREFERRED)}
            return name, min(
                found, key=lambda prefix: min((rank[w] for w in prefix.split(".") if w in rank), default=99)
            )
    return None


def _our_names(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = layout_of(state)
    if found is None:
        return {key.removeprefix("module."): value for key, value in state.items()}
    name, prefix = found
    renamed = {}
    for key, value in state.items():
        if key.startswith(prefix):
            key = key.removeprefix(prefix)
            if name == "timm's EfficientNet-Lite":
                key = _counted_through(key, state, prefix)
            for pattern, ours in LAYOUTS[name].rules:
                key = re.sub(pattern, ours, key)
        # All arrays of an attention are one layer's.
        renamed[re.sub(r"\.attn\.(qkv|proj|cpb_mlp\.[02])\.(weight|bias)$", _one_layer, key)] = value
    return renamed


def _one_layer(found: re.Match[str]) -> str:
    return f".attn.{found[1].replace('.', '_')}_{found[2]}"


def _counted_through(key: str, state: dict[str, np.ndarray], prefix: str) -> str:
    """`blocks.<stage>.<block>.` with blocks counted over all stages."""
    found = re.match(r"blocks\.(\d+)\.(\d+)\.", key)
    if not found:
        return key
    keys = (re.match(re.escape(prefix) + r"blocks\.(\d+)\.(\d+)\.conv_dw\.weight", other) for other in state)
    blocks = sorted((int(other[1]), int(other[2])) for other in keys if other)
    return f"blocks.{blocks.index((int(found[1]), int(found[2])))}.{key[found.end() :]}"


def _complete_bias(parts: dict[str, np.ndarray]) -> None:
    """A bias of query, key and value: made whole where the file keeps two of three, zeros where it keeps none."""
    if "qkv_bias" not in parts:
        zeros = np.zeros(len(parts["qkv_weight"]) // 3, parts["qkv_weight"].dtype)
        query, value = (parts.pop(part, zeros) for part in ("q_bias", "v_bias"))
        parts["qkv_bias"] = np.concatenate([query, parts.pop("k_bias", zeros), value])


def _keras_axes(part: str, value: np.ndarray) -> np.ndarray:
    if part.endswith("weight") and value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if part.endswith("weight") and value.ndim == 2:
        return value.T
    return value.ravel() if part == "gamma" else value
