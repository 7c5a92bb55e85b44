"""GeoKR's own recipe for ResNet-50 and VGG16: pretraining on any tiles with a table of land-cover shares.

    rsml geo crop ... && rsml geo supervise ...
    rsml train --config geokr_resnet50 --set folder=path/to/tiles
    rsml train --config geokr_resnet50 --set folder=path/to/tiles backbone=vgg16 bands=2,3,4,8
    rsml train --config signa --set folder=path/to/ucm weights=checkpoint/geokr-resnet50

`folder` holds land_cover.csv and the tiles it names; without it the built-in scenes are drawn at 256 px. The authors
trained on 1.4 million Gaofen tiles that were never released, from an ImageNet start (`weights=imagenet`), with one GPU.
No figure of theirs can be reproduced without those tiles; what was measured here is in docs/results.md.
"""

from typing import Literal

from rsml.config import Augment, Data, Experiment, Model, Training
from rsml.methods import GeoKR


def experiment(
    folder: str = "scenes",
    backbone: Literal["resnet50", "vgg16"] = "resnet50",
    weights: str | None = None,
    bands: tuple[int, ...] | None = None,
    size: int = 256,
    teacher: bool = True,
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32",
):
    # Hue and saturation are colours of red, green and blue; other bands have none.
    colours = bands is None or len(bands) == 3
    return Experiment(
        name=f"geokr-{backbone}" + ("" if teacher else "-no-teacher"),
        data=Data(source=folder, task="proportions", scenes={"seed": 1, "size": size}, image_size=size, bands=bands),
        augment=Augment(
            quarter_turns=True,
            brightness=(0.7, 1.3),
            contrast=(0.5, 1.5),
            saturation=(0.5, 1.5) if colours else None,
            hue=0.3 if colours else 0.0,
        ),
        model=Model(backbone=backbone, weights=weights),
        methods=GeoKR(teacher=teacher),
        training=Training(
            epochs=10,
            batch_size=8,
            learning_rate=1e-3,
            backbone_rate=1.0,
            schedule="step",
            step_epochs=1,
            step_factor=0.9,
            precision=precision,
        ),
    )
