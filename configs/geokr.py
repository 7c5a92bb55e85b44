"""GeoKR in small: the built-in network learns from the land cover under drawn scenes, without any label.

    rsml train --config geokr
    rsml train --config scenes --set model.weights=checkpoint/geokr data.train_fraction=0.05 --name few

The scenes are others (seed 1) than those of configs/scenes.py, so nothing it is tested on was seen before.
"""

from rsml.config import Augment, Data, Experiment, Training
from rsml.data.options import Scenes
from rsml.methods import GeoKR

experiment = Experiment(
    name="geokr",
    data=Data(source="scenes", task="proportions", scenes=Scenes(seed=1), image_size=64),
    methods=GeoKR(update="step", alpha=0.99),
    augment=Augment(quarter_turns=True, brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.8, 1.2)),
    training=Training(epochs=20, batch_size=32, learning_rate=2e-3, schedule="cosine", warmup_epochs=1),
)
