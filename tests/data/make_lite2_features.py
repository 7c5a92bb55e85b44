"""Record what the PyTorch package of EfficientNet-Lite makes of its own Lite2 file and three images of UC Merced.

    RSML_TEST_DATA=FOLDER python tests/data/make_lite2_features.py

Needs torch, Pillow and the package efficientnet-lite-pytorch, which the tests do not.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(os.environ.get("RSML_TEST_DATA", "."))
FILE = DATA / "weights" / "efficientnet_lite2_imagenet.pth"
NAMES = ("airplane/airplane00.jpg", "harbor/harbor12.jpg", "beach/beach10.jpg")
SIDE = 260


def pixels() -> np.ndarray:
    """The images at Lite2's size, (3, 260, 260, 3) uint8."""
    opened = (Image.open(DATA / "data" / "ucm" / "Images" / name).convert("RGB") for name in NAMES)
    return np.stack([np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in opened])


def main() -> None:
    """Writes `torch/efficientnet_lite2.npz`."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite2")
    model.load_state_dict(torch.load(FILE, map_location="cpu"))
    model.eval()
    batch = torch.from_numpy(((pixels().astype("float32") - 127) / 128).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        features, scores = model.extract_features(batch), torch.softmax(model(batch), 1)
    classes = scores.argsort(1, descending=True)[:, :5].numpy()
    np.savez_compressed(
        Path(__file__).parent / "torch" / "efficientnet_lite2.npz",
        features=features.permute(0, 2, 3, 1).numpy().ravel()[::997],
        classes=classes,
        scores=np.take_along_axis(scores.numpy(), classes, 1),
    )


if __name__ == "__main__":
    main()
