import csv

import numpy as np
import pytest

from rsml.cli.main import main
from rsml.config import Data, Experiment, Training
from rsml.data.readers import read_samples
from rsml.evaluation.suspects import find_suspects
from rsml.training.out_of_fold import folds_of, frozen_features, scores_of_features, scores_of_training, write_suspects
from rsml.utils.errors import UserError


@pytest.fixture
def samples(scene_folder):
    return read_samples(scene_folder)


def test_no_image_is_scored_by_what_learned_from_it(samples):
    folds = folds_of(samples, 4)
    assert np.bincount(folds).tolist() == [9] * 4
    # Features that name the image: inside its own fold a regression would repeat the label whatever it is.
    features = np.eye(len(samples), dtype=np.float32)
    scores = scores_of_features(features, samples, folds)
    assert np.ptp(scores, axis=0).max() < 0.05


def test_a_wrong_class_is_found_and_written(samples, tmp_path, scene_folder):
    colours = np.array([np.eye(3)[k] for k in samples.classes]) + np.random.default_rng(0).normal(0, 0.1, (36, 3))
    labels = samples.labels.copy()
    labels[5] = np.roll(labels[5], 1)
    wrong = type(samples)(samples.paths, labels, samples.label_names, samples.task, samples.root)
    folds = folds_of(wrong, 3)
    features = np.repeat(colours, 40, axis=1).astype("float32")
    found = find_suspects(labels, scores_of_features(features, wrong, folds), one_class=True)
    assert found[0].image == 5
    write_suspects(found, wrong, tmp_path)
    (first, *_) = csv.DictReader((tmp_path / "suspects.csv").open())
    assert first["path"] == wrong.paths[5] and first["probably_wrong"] == samples.label_names[labels[5].argmax()]
    assert first["probably_missing"] == samples.label_names[samples.classes[5]]
    assert (tmp_path / "suspects.jpg").stat().st_size > 1000


@pytest.mark.slow
def test_an_experiment_is_trained_for_each_fold(samples, tmp_path):
    folds = folds_of(samples, 2)
    experiment = Experiment(name="any", data=Data(image_size=32), training=Training(epochs=1, batch_size=8))
    scores = scores_of_training(experiment, samples, folds, tmp_path)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert (tmp_path / "fold0" / "best.keras").is_file() and (tmp_path / "fold1" / "metrics.json").is_file()


def test_bad_input_is_one_line(samples, share_table, tmp_path, capsys, scene_folder):
    with pytest.raises(UserError, match="--folds 99: expected 2 to 36"):
        folds_of(samples, 99)
    with pytest.raises(UserError, match="shares of classes are not right or wrong"):
        folds_of(read_samples(share_table, task="proportions"), 5)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="a run, which may have learned these very labels"):
        frozen_features(samples, str(tmp_path), None, 32)
    with pytest.raises(UserError, match="has random weights"):
        frozen_features(samples, "small", None, 32)
    assert main(["suspects", str(tmp_path / "nothing")]) == 2
    assert main(["suspects", str(scene_folder), "--set", "training.epochs=1"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 2 and "nothing" in said[0] and "name it with --config" in said[1]
