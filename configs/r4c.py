"""R4C's own recipe: UC Merced and AID (multi-label), AID and NWPU-RESISC45 (single-label), by learning to rank.

    rsml train --config r4c --set folder=path/to/ucm
    rsml train --config r4c --set folder=path/to/aid dataset=aid backbone=vgg16_bn_mlp
    rsml train --config r4c --set folder=path/to/nwpu dataset=nwpu epochs=100

400 epochs at 512 px need a GPU; `epochs` shortens them, and the drops of the rate come along. ImageNet weights are
fetched from torchvision unless `weights` is a file. The authors' three backbones are resnet50, swin_t and vgg16_bn_mlp
(VGG16 with batch norms and its two layers of 4096, whose output is what feature ranking ranks). Where this is not the
authors': single-label data they crop at random.
"""

from typing import Literal

from rsml.config import Augment, Data, Experiment, Model, Training

MULTI, SINGLE = "multi-label", "single-label"
# Of single-label data the authors train on 20 and 10 percent. A tenth is kept back here to choose the epoch by.
SETS = {
    "ucm": (MULTI, (70, 10, 20)),
    "aid": (MULTI, (70, 10, 20)),
    "aid-scenes": (SINGLE, (20, 10, 70)),
    "nwpu": (SINGLE, (10, 10, 80)),
}


def experiment(
    folder: str = "data/ucm",
    dataset: Literal["ucm", "aid", "aid-scenes", "nwpu"] = "ucm",
    backbone: str = "resnet50",
    weights: str | None = "imagenet",
    size: int = 512,
    epochs: int = 400,
):
    task, fractions = SETS[dataset]
    return Experiment(
        name=f"r4c-{dataset}-{backbone.rpartition(':')[2]}",
        data=Data(source=folder, task=task, fractions=fractions, image_size=size),
        augment=Augment(rotation=90),
        model=Model(backbone=backbone, weights=weights),
        methods="r4c",
        training=Training(
            epochs=epochs,
            batch_size=16,
            learning_rate=1e-5,
            backbone_rate=1.0,
            schedule="step",
            milestones={0.5: 0.1, 0.75: 0.5},
            monitor="micro_f1" if task == MULTI else "accuracy",
        ),
    )
