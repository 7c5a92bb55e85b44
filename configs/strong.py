"""A recipe of today, for any backbone, any method and any of the tasks; UC Merced on its published splits by default.

    rsml train --config strong --set folder=path/to/ucm backbone=path/to/efficientnet_lite0.keras
    rsml train --config strong --set folder=path/to/ucm task=single-label backbone=resnet50
    rsml average checkpoint/strong-ucm-seed0 checkpoint/strong-ucm-seed1 checkpoint/strong-ucm-seed2 --name strong-ucm

AdamW with warm-up and cosine, moving average of the weights, the eight flips and quarter turns, random square crops and
colour jitter while training, eight views at test time. It was not yet run to its end on UC Merced; no figure stands for
it.
"""

from pathlib import Path
from typing import Literal

from rsml.config import Augment, Data, Evaluation, Experiment, Model, Training


def experiment(
    folder: str = "data/ucm",
    task: Literal["multi-label", "single-label"] = "multi-label",
    backbone: str = "efficientnet_lite0",
    weights: str | None = "imagenet",
    size: int = 224,
    epochs: int = 20,
    seed: int = 0,
    published_split: bool = True,
):
    multi = task == "multi-label"
    # A whole file brings its own weights; EfficientNet-Lite's takes (x - 127) / 128.
    from_file = Path(backbone).suffix in (".keras", ".h5")
    splits = "ucmercedmultilabel" if multi else "ucmerced"
    return Experiment(
        name=f"strong-{Path(folder).name}{'' if multi else '-classes'}-seed{seed}",
        seed=seed,
        data=Data(
            source=folder if multi or not published_split else f"{folder}/Images",
            task=task,
            labels=f"{folder}/LandUse_Multilabeled.txt" if multi and published_split else None,
            split_files=tuple(f"{folder}/splits/{splits}_{part}.csv" for part in ("train", "val", "test"))
            if published_split
            else None,
            image_size=size,
            cache="memory",
        ),
        augment=Augment(quarter_turns=True, vertical_flip=False, crop=(0.7, 1), brightness=0.3, contrast=0.3),
        model=Model(
            backbone=backbone,
            weights=None if from_file and weights == "imagenet" else weights,
            preprocess="lite" if from_file else None,
            dropout=0.2,
        ),
        training=Training(
            epochs=epochs,
            batch_size=16,
            optimizer="adamw",
            learning_rate=5e-4,
            backbone_rate=1.0,
            weight_decay=0.02,
            warmup_epochs=1.25,
            schedule="cosine",
            average=0.995,
        ),
        evaluation=Evaluation(views=8, tune_thresholds=multi),
    )
