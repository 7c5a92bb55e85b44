"""Record what networks of torchvision, timm and TorchGeo make of parameters that are filled by a rule.

    python tests/data/make_torch_features.py [CASE ...]

Needs torch, torchvision and timm, which the tests do not: they fill the same parameters by the same rule (`fill`, numpy
alone), load them as a weights file, and compare. Each `torch/<case>.npz` holds the names and shapes of the parameters,
and numbers spread over the feature map for two sizes of images.
"""

import json
import math
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "torch"
KEPT = 400


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter: normal numbers whose seed is its name, of a size that keeps features neither flat nor vast."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, "float32")
    part = name.rpartition(".")[2]
    if part == "logit_scale":
        return math.log(10) + 0.3 * noise
    if part == "running_var":
        return 0.5 + np.abs(noise)
    if part == "relative_position_bias_table" or any(word in part for word in ("token", "pos_embed")):
        return 0.5 * noise
    if any(word in part for word in ("layer_scale", "gamma")):
        return 0.5 + 0.1 * noise
    if len(shape) > 1:
        return noise / math.sqrt(math.prod(shape[1:]))
    return 1 + 0.2 * noise if part == "weight" else 0.2 * noise


def images(size: tuple[int, int], bands: int) -> np.ndarray:
    """Images as networks take them, scaled: (1, height, width, bands)."""
    return np.random.default_rng(size).standard_normal((1, *size, bands), "float32")


def spread(features: np.ndarray) -> np.ndarray:
    """Numbers from all over a feature map (1, height, width, channels)."""
    flat = features.ravel()
    return flat[:: max(1, flat.size // KEPT)]


def _cases() -> dict[str, tuple[Callable[[], Any], list[tuple[int, int]], int]]:
    """Name of ours -> (maker of theirs, sizes of images, bands)."""
    import timm
    import torch
    import torchvision

    vision, conv, tokens = torchvision.models, [(64, 64), (75, 90)], [(64, 64), (96, 80)]

    def timm_model(name: str, bands: int = 3, **options: Any) -> Callable[[], Any]:
        return lambda: timm.create_model(name, in_chans=bands, **options)

    def satlas() -> Any:
        # As torchgeo.models.swin_v2_t does for other bands.
        model = vision.swin_v2_t()
        model.features[0][0] = torch.nn.Conv2d(9, 96, 4, 4)
        return model

    def small_vit() -> Any:
        return vision.VisionTransformer(64, 16, 12, 6, 384, 1536)

    vit = {"dynamic_img_size": True}
    cases = {
        f"torchvision-{name}": (getattr(vision, name), conv, 3)
        for name in [
            "resnet18",
            "resnet34",
            "resnet50",
            "resnet101",
            "wide_resnet50_2",
            "vgg16_bn",
            "swin_t",
            "swin_s",
            "swin_b",
            "swin_v2_t",
            "swin_v2_s",
            "swin_v2_b",
            "convnext_tiny",
            "convnext_small",
            "convnext_base",
            "convnext_large",
        ]
    }
    cases |= {f"torchvision-{name}": (getattr(vision, name), [(224, 224)], 3) for name in ("vit_b_16", "vit_l_32")}
    cases |= {
        "torchvision-vit_s_16": (small_vit, [(64, 64)], 3),
        "timm-resnet50": (timm_model("resnet50"), conv, 3),
        "timm-swin_t": (timm_model("swin_tiny_patch4_window7_224"), [(224, 224), (224, 448)], 3),
        "timm-convnext_tiny": (timm_model("convnext_tiny"), conv, 3),
        "timm-vit_s_16": (timm_model("vit_small_patch16_224", **vit), tokens, 3),
        "timm-vit_b_8": (timm_model("vit_base_patch8_224", **vit), tokens, 3),
        "timm-vit_l_16": (timm_model("vit_large_patch16_224", **vit), tokens, 3),
        "timm-vit_s_14_dinov2": (timm_model("vit_small_patch14_dinov2", **vit), [(70, 70), (84, 56)], 3),
        "timm-vit_s_14_dinov2_reg4": (timm_model("vit_small_patch14_reg4_dinov2", **vit), [(70, 70), (84, 56)], 3),
        "timm-vit_b_14_dinov2_reg4": (timm_model("vit_base_patch14_reg4_dinov2", **vit), [(70, 70), (84, 56)], 3),
        "timm-vit_s_16_dinov3": (timm_model("vit_small_patch16_dinov3_qkvb"), tokens, 3),
        "timm-vit_b_16_dinov3": (timm_model("vit_base_patch16_dinov3"), tokens, 3),
        "torchgeo-resnet18": (timm_model("resnet18", 13), conv, 13),
        "torchgeo-resnet50": (timm_model("resnet50", 13), conv, 13),
        "torchgeo-vit_s_16": (timm_model("vit_small_patch16_224", 13, **vit), tokens, 13),
        "torchgeo-swin_v2_t": (satlas, conv, 9),
    }
    cases |= {
        f"timm-efficientnet_lite{number}": (timm_model(f"tf_efficientnet_lite{number}"), conv, 3) for number in range(5)
    }
    return cases


def _features(model: Any, name: str, batch: Any) -> Any:
    """Their feature map before pooling, (1, height, width, channels)."""
    import torch

    if "vit" in name:
        if hasattr(model, "conv_proj"):
            patches = model._process_input(batch)
            tokens = model.encoder(torch.cat([model.class_token, patches], 1))
        else:
            tokens = model.forward_features(batch)
        size = model.patch_size if hasattr(model, "conv_proj") else model.patch_embed.patch_size[0]
        height, width = batch.shape[2] // size, batch.shape[3] // size
        return tokens[:, -height * width :].reshape(1, height, width, -1)
    if hasattr(model, "forward_features"):
        features = model.forward_features(batch)
        return features if "swin" in name else features.permute(0, 2, 3, 1)
    if "swin" in name:
        return model.norm(model.features(batch))
    if hasattr(model, "features"):
        return model.features(batch).permute(0, 2, 3, 1)
    for part in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        batch = getattr(model, part)(batch)
    return batch.permute(0, 2, 3, 1)


def main(chosen: list[str]) -> None:
    """Writes the files of the chosen cases."""
    import torch

    FOLDER.mkdir(exist_ok=True)
    for case, (make, sizes, bands) in _cases().items():
        if chosen and case not in chosen:
            continue
        model = make().eval()
        state = {
            key: torch.from_numpy(fill(key, tuple(value.shape))) if value.is_floating_point() else value
            for key, value in model.state_dict().items()
            if not key.endswith(("relative_coords_table", "attn_mask"))
        }
        model.load_state_dict(state, strict=False)
        # The classifier takes no part and is most of VGG16's parameters.
        shapes = {
            key: list(value.shape)
            for key, value in state.items()
            if value.is_floating_point() and not key.startswith(("classifier.", "fc.", "head.fc.", "heads."))
        }
        recorded = {"shapes": np.array(json.dumps(shapes)), "bands": np.array(bands)}
        for size in sizes:
            if case == "timm-swin_t":  # whose windows shrink with the map, unless it is whole windows
                model.set_input_size(size, window_size=(7, 7))
            with torch.no_grad():
                batch = torch.from_numpy(images(size, bands).transpose(0, 3, 1, 2).copy())
                features = _features(model, case, batch).numpy()
            recorded[f"{size[0]}x{size[1]}"] = spread(features)
            print(case, size, features.shape, f"deviation {features.std():.3f}", flush=True)
        np.savez_compressed(FOLDER / f"{case}.npz", **recorded)


if __name__ == "__main__":
    main(sys.argv[1:])
