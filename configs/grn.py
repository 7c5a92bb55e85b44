"""GRN's own recipe on UC Merced, AID and DFC15 (multi-label): SNDL-BCE, or SNDL alone.

    rsml train --config grn --set folder=path/to/ucm
    rsml train --config grn --set folder=path/to/aid dataset=aid backbone=resnet50 bce=False
    rsml retrieve measure checkpoint/sndl-bce-ucm-resnet18

130 epochs in batches of 256 at 256 px need a GPU, or a smaller batch with a rate lowered in proportion:
`--set training.batch_size=64 training.learning_rate=0.025`. ImageNet weights are fetched once unless `weights` is a
file. The epoch with the best KNN F1 on the validation part is kept, as in the authors' code.
"""

from typing import Literal

from rsml.config import Augment, Data, Experiment, Model, Training
from rsml.methods import GRN


def experiment(
    folder: str = "data/ucm",
    dataset: Literal["ucm", "aid", "dfc15"] = "ucm",
    backbone: Literal["resnet18", "resnet50", "wide_resnet50_2", "inceptionv3"] = "resnet18",
    bce: bool = True,
    weights: str | None = "imagenet",
):
    return Experiment(
        name=f"{'sndl-bce' if bce else 'sndl'}-{dataset}-{backbone}",
        data=Data(source=folder, task="multi-label", fractions=(70, 10, 20), image_size=256),
        augment=Augment(vertical_flip=False, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4, greyscale=0.2),
        model=Model(backbone=backbone, weights=weights),
        methods=GRN(bce=bce),
        training=Training(
            epochs=130,
            batch_size=256,
            optimizer="sgd",
            nesterov=True,
            learning_rate=0.1,
            backbone_rate=1.0,
            weight_decay=1e-4,
            schedule="step",
            step_epochs=30,
            step_factor=0.5,
            monitor="knn_samples_f1",
        ),
    )
