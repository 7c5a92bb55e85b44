import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import rsml
from rsml.config import Data, Evaluation, Experiment, Training
from rsml.data.samples import Samples
from rsml.evaluation.report import summary
from rsml.layers.scene_predictions import predictions_layer
from rsml.training.certainty import certainty_lines, settle
from rsml.utils.errors import UserError


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """190 images of 32 px, most of them for validation; three labels, each a band that is bright."""
    root, random = tmp_path_factory.mktemp("bright"), np.random.default_rng(0)
    rows = ["path,split,red,green,blue"]
    for number in range(190):
        labels = random.random(3) < 0.5
        pixels = np.clip(60 + 90 * labels + random.normal(0, 50, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        split = "train" if number < 40 else "valid" if number < 150 else "test"
        rows.append(f"{number}.png,{split}," + ",".join(str(int(label)) for label in labels))
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root / "labels.csv"


def experiment(table, name, **evaluation):
    return Experiment(
        name=name,
        data=Data(source=str(table), image_size=32),
        training=Training(epochs=1, batch_size=20),
        evaluation=Evaluation(resamples=50, figures=False, **evaluation),
    )


def test_a_run_is_calibrated_and_keeps_its_promise_in_the_checkpoint(table, tmp_path, caplog):
    run = rsml.train(experiment(table, "sure", thresholds="recall>=0.8"), root=tmp_path)
    found = run.evaluation["test"]
    assert found["calibration"]["after"]["ece"] < found["calibration"]["before"]["ece"]
    assert found["calibration"]["images"] == 110
    kept = found["promise"]
    assert kept["images"] == 110 and kept["level"] == 0.8 and 0.5 < kept["reached"] <= 1

    # Plain Keras serves the calibrated scores, and the thresholds are those of the promise.
    model = run.model()
    last = predictions_layer(model)
    scores = model.predict(rsml.images(run.samples.part("test").files, size=32), verbose=0)
    table_of_scores = np.loadtxt(run.files.predictions, delimiter=",", skiprows=1, usecols=(1, 2, 3))
    np.testing.assert_allclose(scores, table_of_scores, atol=2e-6)
    assert set(last.thresholds) == {kept["threshold"]} and last.promise["measure"] == "recall"
    text = run.files.report.read_text()
    assert "promised recall >= 80 % from 110 validation images; test part:" in text
    assert "expected calibration error: " in text and "Platt scaling of each label from 110" in text

    # The page and how the run was made are written too.
    assert run.files.page.stat().st_size < 6_000_000
    made = json.loads(run.files.made_with.read_text())
    assert made["versions"]["rsml"] == rsml.__version__ and made["seconds"] > 0 and made["peak_bytes"] > 1e8


def test_calibration_changes_no_decision(table, tmp_path):
    plain = rsml.train(experiment(table, "plain", calibrate=False, page=False), root=tmp_path)
    calibrated = rsml.train(experiment(table, "calibrated", page=False), root=tmp_path)
    same = ("example_f1", "micro_f1", "map_over_seen_labels", "subset_accuracy")
    for metric in same:
        assert calibrated.metrics["test"][metric] == pytest.approx(plain.metrics["test"][metric], abs=1e-9)
    assert predictions_layer(plain.model()).calibration is None
    assert plain.evaluation["test"]["calibration"]["method"] is None


def part(images, task="multi-label"):
    random = np.random.default_rng(0)
    labels = np.eye(3)[random.integers(0, 3, images)] if task == "single-label" else random.random((images, 3)) < 0.5
    names, splits = ("red", "green", "blue"), ["valid"] * images
    return Samples(np.arange(images).astype(str), labels, names, task, ".", splits=splits)


def test_single_label_gets_a_temperature_and_sets():
    valid = part(200, "single-label")
    raw = np.random.default_rng(1).dirichlet(np.ones(3), 200).astype("float32")
    certainty = settle(Evaluation(thresholds="recall>=0.9"), valid, raw, "single-label")
    assert certainty.calibration.method == "temperature" and certainty.thresholds is None
    found = certainty.measured(valid, raw, 0)
    assert found["promise"]["reached"] >= 0.9 and found["promise"]["named"] > 2
    (first, second) = certainty_lines(found, "valid")
    assert first.startswith("expected calibration error: ") and "after temperature from 200" in first
    assert "classes in a set" in second


def test_thresholds_are_tuned_on_calibrated_scores():
    valid = part(200)
    raw = np.clip(0.3 * valid.labels + np.random.default_rng(1).random((200, 3)) * 0.3, 0, 1)
    certainty = settle(Evaluation(tune_thresholds=True), valid, raw, "multi-label")
    tuned = summary("multi-label", valid.label_names, valid.labels, certainty.scores(raw), certainty.thresholds)
    plain = summary("multi-label", valid.label_names, valid.labels, raw, 0.5)
    assert tuned["metrics"]["macro_f1"] > plain["metrics"]["macro_f1"] + 0.1


def test_few_validation_images_calibrate_nothing_and_say_so(caplog):
    caplog.set_level("INFO")
    certainty = settle(Evaluation(), part(30), np.full((30, 3), 0.5), "multi-label")
    assert certainty.calibration is None and certainty.thresholds is None
    assert "needs 100 validation images, found 30" in caplog.text


def test_a_promise_that_cannot_be_given_is_refused_before_training(table, tmp_path):
    with pytest.raises(UserError, match=r"recall >= 0\.999: needs 999 validation images, found 110: 889 are missing"):
        rsml.train(experiment(table, "much", thresholds="recall>=0.999"), root=tmp_path)
    assert not (tmp_path / "much").exists()
    both = {"name": "both", "evaluation": {"thresholds": "recall>=0.9", "tune_thresholds": True}}
    with pytest.raises(UserError, match="two ways to choose them"):
        Experiment.parse(both)
    with pytest.raises(UserError, match="expected recall>=LEVEL"):
        Experiment.parse({"name": "odd", "evaluation": {"thresholds": "f1>=0.9"}})


def test_shares_are_promised_nothing():
    shares = replace(part(1), task="proportions", labels=np.array([[0.5, 0.3, 0.2]]))
    assert settle(Evaluation(), shares, np.array([[0.5, 0.3, 0.2]]), "proportions").measured(shares, None, 0) == {}
