"""UC Merced on its published splits, from ImageNet, sized for a laptop's CPU: its 17 labels, or its 21 classes.

    rsml train --config ucm --set folder=path/to/ucm backbone=path/to/backbone.keras
    rsml train --config ucm --set folder=path/to/ucm task=single-label

`folder` holds Images/<class>/, LandUse_Multilabeled.txt and splits/ (AiTLAS arena). Without `backbone`, Keras fetches
EfficientNet-B0. Published on these splits, ImageNet start: mAP 95.67 (ResNet-50) and 96.83 (Swin-T) for the labels,
accuracy 98.57 (ResNet-50) for the classes. Reached here: see docs/results.md.
"""

from typing import Literal

from rsml.config import Augment, Data, Evaluation, Experiment, Model, Training


def experiment(
    folder: str = "data/ucm",
    task: Literal["multi-label", "single-label"] = "multi-label",
    backbone: str = "efficientnetb0",
    weights: str | None = "imagenet",
    size: int = 160,
    epochs: int = 15,
):
    multi = task == "multi-label"
    from_file = backbone.endswith((".keras", ".h5"))
    splits = "ucmercedmultilabel" if multi else "ucmerced"
    return Experiment(
        name="ucm-multilabel" if multi else "ucm",
        data=Data(
            source=folder if multi else f"{folder}/Images",
            task=task,
            labels=f"{folder}/LandUse_Multilabeled.txt" if multi else None,
            split_files=tuple(f"{folder}/splits/{splits}_{part}.csv" for part in ("train", "val", "test")),
            image_size=size,
            cache="memory",
        ),
        augment=Augment(brightness=(0.8, 1.2)),
        # A whole file brings its own weights; EfficientNet-Lite0's takes (x - 127) / 128.
        model=Model(
            backbone=backbone,
            weights=None if from_file and weights == "imagenet" else weights,
            preprocess="lite" if from_file else None,
            dropout=0.2,
        ),
        training=Training(
            epochs=epochs, batch_size=16, learning_rate=5e-4, backbone_rate=1.0, schedule="cosine", warmup_epochs=1
        ),
        evaluation=Evaluation(tune_thresholds=True),
    )
