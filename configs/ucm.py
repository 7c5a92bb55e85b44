"""UC Merced's 21 scene classes on the published split, from ImageNet, sized for a laptop's CPU.

    python train.py --config configs/ucm.py --arg folder=path/to/ucm --arg backbone=path/to/backbone.keras

`folder` holds Images/<class>/ and splits/ (AiTLAS arena's ucmerced_{train,val,test}.csv).
Published on this split, ImageNet start: accuracy 98.57 (ResNet-50). Reached here: see docs/results.md.
"""

from rsml.config import Augment, Data, Evaluation, Experiment, Model, Training


def experiment(folder: str = "data/ucm", backbone: str = "efficientnetb0", size: int = 160, epochs: int = 15):
    from_file = backbone.endswith((".keras", ".h5"))
    return Experiment(
        name="ucm",
        data=Data(
            source=f"{folder}/Images",
            task="single-label",
            split_files=tuple(f"{folder}/splits/ucmerced_{part}.csv" for part in ("train", "val", "test")),
            image_size=size,
            cache="memory",
        ),
        augment=Augment(brightness=(0.8, 1.2)),
        # A whole file brings its own weights; EfficientNet-Lite0's takes (x - 127) / 128.
        model=Model(
            backbone=backbone,
            weights=None if from_file else "imagenet",
            preprocess="lite" if from_file else None,
            dropout=0.2,
        ),
        training=Training(
            epochs=epochs, batch_size=16, learning_rate=5e-4, backbone_rate=1.0, schedule="cosine", warmup_epochs=1
        ),
        evaluation=Evaluation(batch_size=32),
    )
