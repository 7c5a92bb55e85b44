"""Files of torchvision, timm and TorchGeo give the features that their own networks give.

The parameters are filled by a rule from their names; `tests/data/make_torch_features.py` recorded the features.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from rsml.models.names import known
from rsml.models.surgery import rebuild
from rsml.weights.load import load_weights
from rsml.weights.torch_names import layout_of
from tests.data.make_torch_features import FOLDER, fill, images, spread

# Case -> layout, and what of the file is not used.
CASES = {
    "torchvision-resnet18": ("ResNet", []),
    "timm-resnet50": ("ResNet", []),
    "torchgeo-resnet18": ("ResNet", []),
    "torchvision-vgg16_bn": ("VGG with batch norms", []),
    "torchvision-swin_t": ("torchvision's Swin", ["head"]),
    "timm-swin_t": ("timm's Swin", []),
    "torchvision-swin_v2_t": ("torchvision's Swin", ["head"]),
    "torchgeo-swin_v2_t": ("torchvision's Swin", ["head"]),
    "torchvision-vit_s_16": ("torchvision's ViT", []),
    "timm-vit_s_16": ("ViT", ["head"]),
    "torchgeo-vit_s_16": ("ViT", ["head"]),
    "timm-vit_s_14_dinov2_reg4": ("ViT", []),
    "timm-vit_s_16_dinov3": ("ViT", []),
    "torchvision-convnext_tiny": ("torchvision's ConvNeXt", []),
    "timm-convnext_tiny": ("timm's ConvNeXt", ["head_norm"]),
    "timm-efficientnet_lite0": ("timm's EfficientNet-Lite", []),
}
SLOW = {"timm-resnet50", "timm-swin_t", "torchvision-swin_v2_t", "timm-vit_s_16", "timm-convnext_tiny"}
SLOW |= {"torchgeo-swin_v2_t", "timm-vit_s_14_dinov2_reg4"}


def recorded_state(case: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The parameters of a case, and what was recorded of it."""
    with np.load(FOLDER / f"{case}.npz") as file:
        recorded = dict(file)
    shapes = json.loads(str(recorded.pop("shapes")))
    return {name: fill(name, tuple(shape)) for name, shape in shapes.items()}, recorded


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES]
)
def test_features_are_those_of_their_own_network(tmp_path: Path, case: str) -> None:
    layout, unused = CASES[case]
    state, recorded = recorded_state(case)
    assert layout_of(state) == (layout, "")
    np.savez(tmp_path / "state.npz", **state)
    name, bands, model = case.partition("-")[2], int(recorded.pop("bands")), None
    for key, expected in recorded.items():
        height, width = map(int, key.split("x"))
        if model is None or "vit" in name:
            model = known(name).build((height, width), bands)
            report = load_weights(model, tmp_path / "state.npz")
            assert (report.skipped, report.shape_mismatch, report.unused) == ([], {}, unused)
        else:  # the same layers on images of another size
            model = rebuild(model, inputs=keras.Input((height, width, bands)))
        features = np.asarray(model(images((height, width), bands), training=False))
        assert expected.std() > 0.1
        np.testing.assert_allclose(spread(features), expected, atol=1e-4)
