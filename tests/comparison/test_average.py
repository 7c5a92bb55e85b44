"""Several runs as one model."""

import logging

import keras
import numpy as np
import pytest

from rsml.cli.main import main
from rsml.comparison.average import average_runs, ensemble, soup
from rsml.config import Data, Evaluation, Experiment, Training, override
from rsml.prediction.scene_model import SceneModel
from rsml.training.loop import train
from rsml.utils.errors import UserError


@pytest.fixture(scope="module")
def runs(multilabel_csv, tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoint")
    experiment = Experiment(
        name="seed0",
        data=Data(source=str(multilabel_csv), task="multi-label", image_size=32),
        training=Training(epochs=1, batch_size=8),
        evaluation=Evaluation(figures=False, page=False, resamples=0),
    )
    return [train(override(experiment, [f"seed={seed}", f"name=seed{seed}"])[0], root=root) for seed in (0, 1)]


@pytest.fixture(scope="module")
def models(runs):
    return [SceneModel.load(run.files.best) for run in runs]


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)


def test_a_soup_has_the_mean_weights(models):
    made = soup(models)
    for weight, *given in zip(made.weights, *(model.model.weights for model in models), strict=True):
        np.testing.assert_allclose(weight, np.mean(given, axis=0), atol=1e-6)
    assert not np.allclose(models[0].model.weights[0], models[1].model.weights[0])


def test_an_ensemble_has_the_mean_logits_and_is_one_file(models, tmp_path):
    made = ensemble(models)
    made.save(tmp_path / "both.keras")
    found = keras.models.load_model(tmp_path / "both.keras").predict(IMAGES, verbose=0)
    scores = [model.model.predict(IMAGES, verbose=0) for model in models]
    logits = np.mean([np.log(score / (1 - score)) for score in scores], axis=0)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_the_better_one_becomes_a_run_like_any_other(runs, tmp_path, capsys, caplog):
    folders = [str(run.folder) for run in runs]
    with caplog.at_level(logging.INFO, "rsml"):
        assert main(["average", *folders, "--name", "both", "--out", str(tmp_path)]) == 0
    values = {line.split(":")[0]: float(line.split()[-1]) for line in caplog.messages if "validation part" in line}
    better = "ensemble" if values["ensemble"] > values["soup"] else "soup"
    assert f"the {better} is taken" in caplog.messages and "test part" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "both"), "--views", "4", "--out", str(tmp_path / "p.csv")]) == 0
    assert main(["average", *folders, "--name", "both", "--out", str(tmp_path)]) == 2
    assert "--fresh" in capsys.readouterr().err


def test_runs_of_other_data_are_refused(runs, scene_folder, tmp_path):
    other = Experiment(
        name="other",
        data=Data(source=str(scene_folder), task="single-label", image_size=32, fractions=(50, 25, 25)),
        training=Training(epochs=1, batch_size=8),
        evaluation=Evaluation(figures=False, page=False, resamples=0),
    )
    run = train(other, root=tmp_path)
    with pytest.raises(UserError, match="other images, labels or parts"):
        average_runs([runs[0].folder, run.folder], "x", root=tmp_path)
    with pytest.raises(UserError, match="two runs or more, found 1"):
        average_runs([runs[0].folder], "x", root=tmp_path)
