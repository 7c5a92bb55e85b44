"""The default experiment: the built-in scenes, a small network trained from scratch.

    rsml train

Nothing is downloaded; the scenes are drawn into data/ on the first run.
"""

from rsml.config import Augment, Data, Experiment, Training

experiment = Experiment(
    name="scenes",
    data=Data(source="scenes", image_size=64),
    methods="signa",
    augment=Augment(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.8, 1.2)),
    training=Training(epochs=20, batch_size=32, learning_rate=2e-3, schedule="cosine", warmup_epochs=1),
)
