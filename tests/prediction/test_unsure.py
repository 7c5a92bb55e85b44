import csv
from dataclasses import asdict

import keras
import numpy as np
import pytest
from PIL import Image

from rsml.cli.main import main
from rsml.evaluation.promises import Promise
from rsml.layers import ScenePredictions


@pytest.fixture
def images(tmp_path):
    files = []
    for name, grey in (("bright", 250), ("grey", 128), ("dark", 5)):
        files.append(str(tmp_path / f"{name}.png"))
        Image.fromarray(np.full((32, 32, 3), grey, np.uint8) + np.arange(3, dtype=np.uint8)).save(files[-1])
    return files


def model_file(folder, promise):
    """A model that calls bright images day, dark ones night, and cannot tell in between."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D(name="features")(keras.layers.Rescaling(1 / 128, -1)(inputs))
    dense = keras.layers.Dense(2, name="logits")
    last = ScenePredictions(["day", "night"], "single-label", promise=promise and asdict(promise), name="predictions")
    model = keras.Model(inputs, last(dense(x)))
    dense.set_weights([np.tile([[1.0, -1.0]], (3, 1)), np.zeros(2)])
    model.save(folder / "model.keras")
    return str(folder / "model.keras")


def test_images_without_a_plain_answer_are_listed(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = model_file(tmp_path, Promise("recall", 0.9, True, threshold=0.1, images=50))
    assert main(["predict", file, *images, "--unsure", "unsure.csv"]) == 0
    (row,) = csv.DictReader((tmp_path / "unsure.csv").open())
    assert row["path"] == images[1] and sorted(row["named"].split()) == ["day", "night"]
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 4
    assert "unsure of 1 image: unsure.csv" in capsys.readouterr().err


def test_a_model_without_a_promise_is_named(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", model_file(tmp_path, None), images[0], "--unsure", "unsure.csv"]) == 2
    assert "error: --unsure unsure.csv: the model promises nothing; train it with" in capsys.readouterr().err
    assert not (tmp_path / "unsure.csv").exists()
