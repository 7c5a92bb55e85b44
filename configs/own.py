"""Your own data, of either task: a strong start from ImageNet weights.

    rsml divide path/to/images divided
    rsml train --config own --set folder=divided
    rsml train --config own --set folder=labels.csv backbone=resnet50 method=signa --name with-signa

`folder` is anything docs/data.md names. What is not divided yet is divided 70 / 10 / 20, stratified. Keras fetches the
ImageNet weights once; without a network give a whole model: `backbone=model.keras`, and `--set model.preprocess=...`.
"""

from rsml.config import Augment, Data, Experiment, Model, Training


def experiment(
    folder: str,
    backbone: str = "efficientnetb0",
    weights: str | None = "imagenet",
    size: int = 224,
    epochs: int = 20,
    method: str = "plain",
):
    if backbone.endswith((".keras", ".h5")) and weights == "imagenet":
        weights = None  # A whole file brings its own.
    return Experiment(
        name="own",
        data=Data(source=folder, image_size=size),
        augment=Augment(brightness=(0.8, 1.2), contrast=(0.8, 1.2)),
        model=Model(backbone=backbone, weights=weights, dropout=0.2),
        methods=method,
        training=Training(epochs=epochs, learning_rate=5e-4, backbone_rate=1.0, schedule="cosine", warmup_epochs=1),
    )
