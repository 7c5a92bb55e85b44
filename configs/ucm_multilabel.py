"""UC Merced multi-label on its published split, EfficientNet-Lite0 from ImageNet, sized for a laptop's CPU.

    python train.py --config configs/ucm_multilabel.py --arg folder=path/to/ucm --arg backbone=path/to/efficientnet_lite0.keras

`folder` holds Images/, LandUse_Multilabeled.txt and splits/ (AiTLAS arena's ucmercedmultilabel_{train,val,test}.csv).
Published on this split, ImageNet start: mAP 95.67 (ResNet-50), 96.83 (Swin-T). Reached here: see the README.
"""

from rsml.config import Augment, Data, Evaluation, Experiment, Model, Training


def experiment(
    folder: str = "data/ucm",
    backbone: str = "efficientnetb0",
    weights: str | None = None,
    size: int = 160,
    epochs: int = 15,
):
    from_file = backbone.endswith((".keras", ".h5"))
    return Experiment(
        name="ucm-multilabel",
        data=Data(
            source=folder,
            task="multi-label",
            labels=f"{folder}/LandUse_Multilabeled.txt",
            split_files=tuple(f"{folder}/splits/ucmercedmultilabel_{part}.csv" for part in ("train", "val", "test")),
            image_size=size,
            cache="memory",
        ),
        augment=Augment(horizontal_flip=True, vertical_flip=True, brightness=(0.8, 1.2)),
        model=Model(
            backbone=backbone,
            weights=weights or (None if from_file else "imagenet"),
            preprocess="lite" if from_file else None,
            dropout=0.2,
        ),
        training=Training(
            epochs=epochs, batch_size=16, learning_rate=5e-4, backbone_rate=1.0, warmup_epochs=1, schedule="cosine"
        ),
        evaluation=Evaluation(batch_size=32),
    )
