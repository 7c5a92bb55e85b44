import json
import math

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsml.cli.main import main as rsml
from rsml.comparison import paired
from rsml.config import Experiment
from rsml.data.samples import Samples
from rsml.evaluation import multilabel_metrics
from rsml.layers import ScenePredictions
from rsml.run import Run
from rsml.utils.errors import UserError

NAMES = ("sea", "sand", "wood", "town")
COUNT = 60


def make_run(
    root, name, classes, right, *, seed=0, order=None, names=NAMES, task="single-label", scores=None, thresholds=None
):
    """A run folder as training leaves it, with answers that are right where `right` says so."""
    classes, right = np.asarray(classes), np.asarray(right)
    labels = (np.arange(4) == classes[:, None]).astype(np.uint8)
    if scores is None:
        called = np.where(right, classes, (classes + 1) % 4)
        scores = np.where(np.arange(4) == called[:, None], 0.7, 0.1)
    order = np.arange(len(classes)) if order is None else order
    columns = [NAMES.index(label) for label in names]
    run = Run.start(Experiment(name=name, seed=seed), root)
    samples = Samples(
        paths=np.array([f"{row:03d}.png" for row in range(len(classes))])[order],
        labels=labels[order][:, columns],
        label_names=names,
        task=task,
        root=root / "images",
        splits=np.full(len(classes), "test"),
    )
    run.write_samples(samples)
    table = pd.DataFrame(scores[order][:, columns], columns=[f"score {label}" for label in names])
    table.insert(0, "path", samples.paths)
    table.to_csv(run.files.predictions, index=False)
    rows = [{"label": label} for label in names]
    for row, threshold in zip(rows, thresholds or [], strict=False):
        row["threshold"] = threshold
    run.files.metrics.write_text(json.dumps({"test": {"per_label": rows}}))
    run.files.best.write_bytes(b"not needed")
    return str(run.folder)


@pytest.fixture
def classes():
    return np.random.default_rng(1).integers(4, size=COUNT)


def test_accuracy_difference_and_mcnemar_of_two_runs(tmp_path, classes):
    rows = np.arange(COUNT)
    a = make_run(tmp_path, "a", classes, rows >= 6)  # wrong: 0-5
    b = make_run(tmp_path, "b", classes, (rows < 4) | (rows >= 18))  # wrong: 4-17
    (test,), _, _ = paired.compare_runs([a], [b], metrics=["accuracy"])
    assert test.a.value == pytest.approx(54 / 60) and test.b.value == pytest.approx(46 / 60)
    pair = test.pairs[0]
    assert (pair.only_a_right, pair.only_b_right) == (12, 4)
    exact = 2 * sum(math.comb(16, k) for k in range(5)) / 2**16
    assert pair.mcnemar_p == pytest.approx(exact)
    # The spread of a mean of differences in {-1, 0, 1}: 12 gained, 4 lost.
    difference = 8 / 60
    deviation = math.sqrt((16 / 60 - difference**2) / 60)
    assert test.difference.low == pytest.approx(difference - 1.96 * deviation, abs=0.03)
    assert test.difference.high == pytest.approx(difference + 1.96 * deviation, abs=0.03)


def test_images_and_labels_are_matched_by_name(tmp_path, classes):
    right = np.random.default_rng(2).uniform(size=(2, COUNT)) < [[0.9], [0.7]]
    a = make_run(tmp_path, "a", classes, right[0])
    b = make_run(tmp_path, "b", classes, right[1])
    shuffled = np.random.default_rng(3).permutation(COUNT)
    c = make_run(tmp_path, "c", classes, right[1], order=shuffled, names=("town", "sea", "sand", "wood"))
    metrics = ["accuracy", "macro_f1"]
    for one, other in zip(paired.compare_runs([a], [b], metrics=metrics)[0],
                          paired.compare_runs([a], [c], metrics=metrics)[0], strict=True):  # fmt: skip
        np.testing.assert_allclose(one.difference.samples, other.difference.samples, atol=1e-12)
        assert one.p_value == other.p_value


def test_thresholds_of_each_run_are_its_own(tmp_path, classes):
    random = np.random.default_rng(5)
    scores = random.uniform(size=(COUNT, 4)).round(6)
    options = {"task": "multi-label", "scores": scores}
    a = make_run(tmp_path, "a", classes, classes, thresholds=[0.2, 0.4, 0.6, 0.8], **options)
    b = make_run(tmp_path, "b", classes, classes, thresholds=[0.5] * 4, **options)
    (test,), _, _ = paired.compare_runs([a], [b], metrics=["micro_f1"])
    labels = (np.arange(4) == classes[:, None]).astype(int)
    for side, threshold in ((test.a, [0.2, 0.4, 0.6, 0.8]), (test.b, 0.5)):
        assert side.value == pytest.approx(multilabel_metrics(labels, scores, threshold)["micro_f1"])
    assert test.pairs[0].mcnemar_p is None


def test_seeds_are_paired_and_the_table_shows_each(tmp_path, classes, capsys):
    rows = np.arange(COUNT)
    a = [make_run(tmp_path, f"a{seed}", classes, rows >= 3 + seed, seed=seed) for seed in range(3)]
    b = [make_run(tmp_path, f"b{seed}", classes, rows >= 20 + seed, seed=seed) for seed in range(3)]
    assert rsml(["test", "--a", *a, "--b", *b, "--metric", "accuracy", "--resamples", "500"]) == 0
    said = capsys.readouterr().out
    assert "60 images; [95 % interval over images and seeds, 500 resamples]" in said
    assert "seed 2: right alone 17 : 0, McNemar p < 0.001" in said
    line = next(line for line in said.splitlines() if line.startswith("accuracy  "))
    assert "93.3 [" in line and "65.0 [" in line and "+28.33 [" in line and "0.00" in line
    assert rsml(["test", "--a", *a, "--b", *b, "--metric", "accuracy", "--resamples", "500", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 60 and told["a"] == a
    entry = told["metrics"]["accuracy"]
    assert entry["difference"]["value"] == pytest.approx(17 / 60)
    assert [pair["seeds"] for pair in entry["pairs"]] == [[0, 0], [1, 1], [2, 2]]
    assert entry["pairs"][1]["only_a_right"] == 17


def test_scores_are_predicted_anew_where_the_file_is_of_another_part(tmp_path, classes):
    folder = make_run(tmp_path, "a", classes[:4], [True] * 4)
    run = Run(folder)
    pd.read_csv(run.files.predictions).iloc[:2].to_csv(run.files.predictions, index=False)
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    for row, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "images" / f"{row:03d}.png")
    image = keras.Input((8, 8, 3))
    logits = keras.layers.Dense(4)(keras.layers.Rescaling(1 / 255)(keras.layers.GlobalAveragePooling2D()(image)))
    model = keras.Model(image, ScenePredictions(["wood", "town", "sea", "sand"], "single-label")(logits))
    run.write_model(model, run.files.best)
    scored = paired.read_scored(folder, "test")
    expected = model.predict(pixels.astype("float32"), verbose=0)[:, [2, 3, 0, 1]]
    np.testing.assert_allclose(scored.scores, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": ("sea", "sand", "wood")}, r"their labels differ \(only one has town\)"),
        ({"task": "multi-label"}, r"one is single-label, the other multi-label"),
        ({"classes": [0] * COUNT}, r"images have other labels there, 0\d\d.png the first"),
        ({"classes": [0] * 50}, r"their images differ \(60 and 50, 050.png is in one only\)"),
    ],
)
def test_runs_of_other_data_are_refused_in_one_line(tmp_path, classes, change, said):
    a = make_run(tmp_path, "a", classes, [True] * COUNT)
    options = {"classes": classes, **change}
    b = make_run(tmp_path, "b", right=[True] * len(options["classes"]), **options)
    with pytest.raises(UserError, match=said) as fault:
        paired.compare_runs([a], [b])
    assert "\n" not in str(fault.value)


def test_bad_calls_are_one_line(tmp_path, classes, capsys):
    a = make_run(tmp_path, "a", classes, [True] * COUNT)
    for arguments, said in (
        ([a], "1 run given, expected two"),
        (["--a", a, a, "--b", a], "2 against 1"),
        ([a, a, "--metric", "acuracy"], "unknown metric 'acuracy'"),
        ([a, a, "--split", "valid"], "its valid part is empty"),
        ([a, str(tmp_path)], "not a run folder"),
        ([a, a, "--a", a], "not both"),
    ):
        assert rsml(["test", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
