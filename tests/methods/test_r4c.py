"""R4C as a method: its summands, what it refuses, and the way through training."""

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from rsml.config import Data, Experiment, Training, override
from rsml.config_files import load_config
from rsml.methods import R4C
from rsml.training.loop import train
from rsml.utils.errors import UserError
from tests.methods.steps import CONTEXT, saved_and_loaded, trained

ROOT = Path(__file__).parents[2]


def summands(**options):
    """Each summand of a recorded batch, by name."""
    recorded = np.load(ROOT / "tests" / "data" / "r4c_0.npz")
    outputs = {"logits": recorded["logits"], "features": recorded["features"], "images": None}
    terms = R4C(**options).terms(CONTEXT)
    found = {term.name: float(term(recorded["labels"], np.arange(16), outputs)) for term in terms}
    return found, {name: float(recorded[f"{name}_loss"]) for name in ("label", "sample", "feature")}


def test_the_summands_are_the_published_sums_with_their_weights():
    found, recorded = summands(ranking_weight=0.5, feature_weight=2)
    assert found == {
        "feature_ranking": pytest.approx(2 * recorded["feature"], rel=2e-6),
        "label_ranking": pytest.approx(0.5 * recorded["label"], rel=2e-6),
        "sample_ranking": pytest.approx(0.5 * recorded["sample"], rel=2e-6),
    }


def test_every_option_reaches_its_loss_and_no_other():
    plain = summands()[0]
    changed = {
        "label_ranking": {"label_alpha": 20, "neutral_labels": 2, "neutral_label_range": 0.3},
        "sample_ranking": {"sample_alpha": 20, "neutral_samples": 3, "neutral_sample_range": 0.3},
        "feature_ranking": {"feature_alpha": 2},
    }
    for name, options in changed.items():
        for option, value in options.items():
            found = summands(**{option: value})[0]
            assert [other for other in plain if found[other] != plain[other]] == [name], option


def test_a_weight_of_zero_leaves_its_ranking_out():
    assert list(summands(ranking_weight=0)[0]) == ["feature_ranking"]
    assert list(summands(feature_weight=0)[0]) == ["label_ranking", "sample_ranking"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["training.batch_size=1"], "training.batch_size=1 there is nothing to rank; raise it, or set"),
        (["methods.r4c.ranking_weight=0", "methods.r4c.feature_weight=0"], "nothing would be learned"),
        (["methods.r4c.neutral_label_range=0.6"], "neutral_label_range"),
        (["methods.r4c.label_alpha=0"], "label_alpha"),
        (["methods.r4c.lambda=1"], "unknown key 'lambda'"),
    ],
)
def test_what_cannot_be_is_one_line(settings, said):
    with pytest.raises(UserError) as fault:
        override(Experiment(name="x"), ["methods=r4c", *settings])
    assert said in str(fault.value)
    assert "\n" not in str(fault.value) and len(str(fault.value)) < 300


def test_batches_of_one_are_allowed_without_feature_ranking():
    settings = ["methods=r4c", "training.batch_size=1", "methods.r4c.feature_weight=0"]
    assert override(Experiment(name="x"), settings)[0].training.batch_size == 1


def test_with_signa_it_trains_a_step_saves_and_loads(tmp_path):
    classifier, _, step = trained("methods=signa+r4c", "methods.signa.heads=1")
    assert step["objective"] == 0
    rankings = [step[f"{name}_ranking"] for name in ("feature", "label", "sample")]
    assert all(value > 0 for value in rankings)
    assert step["loss"] == pytest.approx(sum(rankings), rel=1e-5)
    loaded, before, after = saved_and_loaded(classifier, tmp_path / "model.keras")
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert "signa_stage2" in [layer.name for layer in loaded.layers]


def test_it_learns_single_label_data_and_logs_each_summand(scene_folder, tmp_path):
    run = train(
        Experiment(
            name="x",
            # 18 images in batches of 17: the last batch of an epoch is one image, which has nothing to be ranked with.
            data=Data(source=str(scene_folder), task="single-label", image_size=32, fractions=(50, 25, 25)),
            methods="r4c",
            training=Training(epochs=6, batch_size=17, learning_rate=2e-3),
            evaluation={"figures": False, "page": False, "resamples": 0},
        ),
        root=tmp_path,
    )
    history = pd.read_csv(run.files.history)
    names = ["feature_ranking", "label_ranking", "sample_ranking"]
    assert np.isfinite(history[names]).all(axis=None)
    assert (history[names].iloc[-1] < history[names].iloc[0]).all()
    assert history["val_accuracy"].max() > 0.8
    scores = keras.models.load_model(run.files.best).predict(np.zeros((1, 32, 32, 3)), verbose=0)
    assert scores.sum() == pytest.approx(1, abs=1e-5)
    assert "accuracy" in json.loads(run.files.metrics.read_text())["test"]["metrics"]


@pytest.mark.parametrize(
    ("dataset", "task", "monitor"),
    [("ucm", "multi-label", "micro_f1"), ("aid", "multi-label", "micro_f1"), ("nwpu", "single-label", "accuracy")],
)
def test_the_config_is_the_papers_recipe(dataset, task, monitor):
    experiment = load_config(ROOT / "configs" / "r4c.py", [f"dataset={dataset}", "backbone=vgg16"])
    training = experiment.training
    assert (experiment.data.task, training.monitor, experiment.data.image_size) == (task, monitor, 512)
    assert (training.optimizer, training.learning_rate, training.backbone_rate) == ("adam", 1e-5, 1.0)
    assert (training.epochs, training.batch_size, training.milestones) == (400, 16, {0.5: 0.1, 0.75: 0.5})
    assert experiment.augment.rotation == 90 and experiment.methods == (R4C(),)
