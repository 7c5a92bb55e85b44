"""SIGNA's own recipe on UC Merced, AID and DFC15 (multi-label), for ResNet-18, ResNet-50 and VGG16.

    rsml train --config signa --set folder=path/to/ucm dataset=ucm backbone=vgg16
    rsml train --config signa --set folder=path/to/ucm method=plain

80 epochs at 256 px (224 for VGG16) need a GPU; `size=96 epochs=16` is a stand-in for a processor. ImageNet weights are
fetched once unless `weights` is a file.
Published, example-based F1 / F2 / precision / recall on the test part:

| backbone  | method | UC Merced               | AID                     | DFC15                   |
|-----------|--------|-------------------------|-------------------------|-------------------------|
| ResNet-50 | signa  | 93.96 93.94 94.00 93.93 | 92.96 92.66 93.46 92.46 | 97.46 97.07 98.12 96.81 |
| ResNet-50 | plain  | 81.40 81.73 80.86 81.95 | 87.44 86.36 89.31 85.65 | 93.13 91.62 95.74 90.65 |
| ResNet-50 | se-net | 89.43 88.54 90.94 87.96 | 88.91 88.05 90.38 87.48 | 94.42 93.74 95.56 93.30 |
| ResNet-50 | ml-gcn | 90.36 90.57 90.03 90.70 | 89.58 89.52 89.69 89.48 | -                       |
| VGG16     | signa  | 92.97 93.24 92.51 93.43 | 91.78 91.69 91.93 91.63 | 96.97 96.74 97.37 96.58 |
| VGG16     | plain  | 80.65 81.63 79.06 82.30 | 86.86 86.54 87.41 86.32 | 93.51 93.46 93.61 93.42 |
"""

from pathlib import Path
from typing import Literal

from rsml.config import Augment, Data, Experiment, Model, Training


def experiment(
    folder: str,
    dataset: Literal["ucm", "aid", "dfc15"] = "ucm",
    backbone: str = "resnet50",
    method: str = "signa",
    weights: str | None = "imagenet",
    size: int | None = None,
    epochs: int = 80,
):
    # A whole file brings its own weights; EfficientNet-Lite's takes (x - 127) / 128.
    from_file = Path(backbone).suffix in (".keras", ".h5")
    return Experiment(
        name=f"{method}-{dataset}-{Path(backbone).stem}",
        # 70 / 10 / 20 percent of each scene class, as in the paper.
        data=Data(
            source=folder,
            task="multi-label",
            fractions=(70, 10, 20),
            image_size=size or (224 if backbone.startswith("vgg16") else 256),
            cache="memory" if size else None,
        ),
        augment=Augment(brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4)),
        model=Model(
            backbone=backbone,
            weights=None if from_file and weights == "imagenet" else weights,
            preprocess="lite" if from_file else None,
        ),
        methods=method,
        training=Training(
            epochs=epochs,
            batch_size=16,
            learning_rate=1e-3,
            backbone_rate=0.1,
            schedule="step",
            step_epochs=max(1, round(epochs * 25 / 80)),
            step_factor=0.1,
        ),
    )
