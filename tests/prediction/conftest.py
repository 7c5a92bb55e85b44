"""A trained run and a classifier of another hand."""

import keras
import numpy as np
import pytest

from rsml.config import Data, Experiment, Training
from rsml.training.loop import train


@pytest.fixture(scope="package")
def run(multilabel_csv, tmp_path_factory):
    experiment = Experiment(
        name="wet",
        data=Data(source=str(multilabel_csv), task="multi-label", image_size=32),
        training=Training(epochs=4, batch_size=4, learning_rate=2e-3),
        evaluation={"figures": False, "page": False, "resamples": 0},
    )
    return train(experiment, root=tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="package")
def foreign(tmp_path_factory):
    """A classifier of another hand for the three colours of `scene_folder`, that scales pixels itself."""
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    # Scores rise with green, with red, and with blue: forest, sand (which is taken for forest), water.
    kernel = np.array([[0, 9, 0], [9, 2, 0], [0, 0, 12]], "float32")
    model.layers[-1].set_weights([kernel, np.array([0, -3, -2], "float32")])
    path = tmp_path_factory.mktemp("foreign") / "m.keras"
    model.save(path)
    return path
