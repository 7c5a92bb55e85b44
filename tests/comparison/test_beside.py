"""Two methods beside each other: numbers of every label against scikit-learn's, and every file that is written."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from rsml.cli.main import main as rsml
from rsml.cli.main import make_parser
from rsml.comparison import beside
from rsml.comparison.beside import set_beside
from rsml.comparison.grid import _plan, grid
from rsml.comparison.paired import compare_runs
from rsml.config import Data, Experiment
from rsml.config_files import read_experiment
from rsml.data.readers import read_samples
from rsml.graph import cooccurrence, threshold_graph
from rsml.layers import ScenePredictions
from rsml.prediction.scene_model import SceneModel
from rsml.run import Run

FILES = {"per_label.csv", "per_label.md", "per_label_gain.png", "panel.jpg", "feature_maps.png"}


def as_run(root, name, samples, seed):
    """A run folder as training leaves it, with a network that has not learned anything."""
    run = Run.start(Experiment(name=name, data=Data(task=samples.task, image_size=32)), root)
    run.write_samples(samples)
    image = keras.Input((32, 32, 3))
    start = keras.initializers.RandomNormal(seed=seed)
    maps = keras.layers.Conv2D(8, 5, 4, activation="relu", kernel_initializer=start)(keras.layers.Rescaling(0.1)(image))
    features = keras.layers.GlobalAveragePooling2D(name="features")(maps)
    logits = keras.layers.Dense(len(samples.label_names), kernel_initializer=start)(features)
    model = keras.Model(image, ScenePredictions(list(samples.label_names), samples.task)(logits))
    run.write_model(model, run.files.best)
    part = samples.part("test")
    table = pd.DataFrame(SceneModel.of(model).scores(part), columns=[f"score {name}" for name in part.label_names])
    table.insert(0, "path", part.paths)
    table.to_csv(run.files.predictions, index=False)
    run.files.metrics.write_text(json.dumps({"test": {"per_label": [{"label": name} for name in part.label_names]}}))
    return str(run.folder)


@pytest.fixture(scope="session")
def two_runs(multilabel_csv, tmp_path_factory):
    """Two runs on the same images, once by their labels and once by their classes: folders by task and name."""
    root = tmp_path_factory.mktemp("beside")
    by_label = read_samples(multilabel_csv)
    classes = tuple(sorted(set(by_label.scenes.tolist())))
    one_hot = (by_label.scenes[:, None] == np.array(classes)).astype(np.uint8)
    by_class = replace(by_label, labels=one_hot, label_names=classes, task="single-label")
    return {
        (samples.task, name): as_run(root, f"{name}-{samples.task}", samples, seed)
        for samples in (by_label, by_class)
        for seed, name in enumerate(("se-net", "plain"))
    }


def with_scores(folder, root, scores, seed, name):
    """The run's folder again with other answers, as of another seed."""
    old, new = Run(folder), Run.start(Run(folder).experiment.model_copy(update={"name": name, "seed": seed}), root)
    for file in ("samples.csv", "samples.json", "metrics.json", "best.keras"):
        (new.folder / file).write_bytes((old.folder / file).read_bytes())
    table = pd.read_csv(old.files.predictions)
    table[[column for column in table if column.startswith("score ")]] = scores
    table.to_csv(new.files.predictions, index=False)
    return str(new.folder)


def of_rsml(caplog):
    return [record.getMessage() for record in caplog.records if record.name.startswith("rsml")]


def compared(a, b):
    return set_beside(*compare_runs(a, b, resamples=10)[1:])


def test_numbers_of_each_label_are_those_of_scikit_learn_and_edges_those_of_the_graph(two_runs):
    a, b = two_runs["multi-label", "se-net"], two_runs["multi-label", "plain"]
    found = compared([a], [b])
    rows = found.rows.set_index("label")
    samples = Run(a).samples
    part = samples.part("test")
    for side, folder in (("a", a), ("b", b)):
        scores = pd.read_csv(Path(folder) / "predictions.csv")[[f"score {name}" for name in part.label_names]]
        given = scores.to_numpy() > 0.5
        expected = precision_recall_fscore_support(part.labels, given, zero_division=0)
        for column, name in enumerate(part.label_names):
            got = rows.loc[name, [f"precision_{side}", f"recall_{side}", f"f1_{side}", "images"]]
            np.testing.assert_allclose(got.astype(float), [values[column] for values in expected], atol=1e-9)
            ap = average_precision_score(part.labels[:, column], scores.to_numpy()[:, column])
            assert rows.loc[name, f"ap_{side}"] == pytest.approx(ap)
    graph = threshold_graph(cooccurrence(samples.part("train").labels), 0.4) > 0
    for column, name in enumerate(part.label_names):
        assert rows.loc[name, "edges"] == graph[column].sum() + graph[:, column].sum()
    np.testing.assert_allclose(rows["f1_gain"], rows["f1_a"] - rows["f1_b"])
    assert found.rows["f1_gain"].is_monotonic_decreasing
    assert found.names == ("se-net-multi-label", "plain-multi-label") and "f1_deviation" not in found.rows


def test_several_seeds_are_means_and_the_deviation_of_the_gain_over_pairs(two_runs, tmp_path):
    plain = two_runs["multi-label", "plain"]
    truth = Run(plain).samples.part("test").labels.astype(float)
    water = Run(plain).samples.label_names.index("water")
    missed = truth.copy()
    missed[np.flatnonzero(truth[:, water])[0], water] = 0  # one of two: recall 1/2, F1 2/3
    a = [with_scores(plain, tmp_path, truth, seed, f"right-seed{seed}") for seed in (0, 1)]
    b = [with_scores(plain, tmp_path, scores, seed, f"less-seed{seed}") for seed, scores in enumerate((truth, missed))]
    found = compared(a, b)
    row = found.rows.set_index("label").loc["water"]
    assert row["images"] == 2 and (row["f1_a"], row["recall_b"]) == (1, 0.75)
    assert row["f1_gain"] == pytest.approx(1 / 6) and row["f1_deviation"] == pytest.approx((1 / 3) / 2**0.5)
    assert found.names == ("right", "less") and found.folder.name == "test-right-less"
    assert "+16.67 ± 23.57" in found.markdown() and "F1 right" in found.markdown().splitlines()[0]
    assert found.text().splitlines()[:2] == ["a: right", "b: less"]


@pytest.mark.parametrize(
    ("edges", "expected"),
    [({"water": 1, "grass": 5, "trees": 9}, -1), ({"water": 9, "grass": 1, "trees": 0}, 1), ({}, None)],
)
def test_gain_and_edges_are_correlated_by_rank(two_runs, tmp_path, monkeypatch, edges, expected):
    plain = two_runs["multi-label", "plain"]
    part = Run(plain).samples.part("test")
    scores = part.labels.astype(float)
    for name in ("water", "grass"):  # 1 of 2 and 1 of 6 missed: gains of 1/3, 1/11 and 0
        column = part.label_names.index(name)
        scores[np.flatnonzero(part.labels[:, column])[0], column] = 0
    right = with_scores(plain, tmp_path, part.labels, 0, "right")
    less = with_scores(plain, tmp_path, scores, 0, "less")
    monkeypatch.setattr(beside, "_edges", lambda *_: np.array([edges.get(name, 0) for name in part.label_names]))
    found = compared([right], [less])
    assert found.rows["label"].tolist() == ["water", "grass", "trees"]
    assert found.correlation == (None if expected is None else pytest.approx(expected))
    assert ("rank correlation" in found.text()) == (expected is not None)


def test_the_command_writes_every_file_and_shows_the_table(two_runs, tmp_path, capsys, caplog):
    a, b = two_runs["multi-label", "se-net"], two_runs["multi-label", "plain"]
    assert rsml(["test", a, b, "--resamples", "10", "--out", str(tmp_path / "out"), "--show"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^label +images +edges +F1 a +F1 b +gain", printed, re.M) and f"pictures: {tmp_path}" in printed
    assert {file.name for file in (tmp_path / "out").iterdir()} == FILES and not of_rsml(caplog)
    for name in ("per_label_gain.png", "panel.jpg", "feature_maps.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 200 and picture.convert("L").getextrema()[0] < 100
    kept = pd.read_csv(tmp_path / "out" / "per_label.csv")
    assert len(kept) == 3 and "gain" not in kept and kept["f1_gain"].between(-1, 1).all()


def test_a_single_label_pair_has_what_applies_and_its_folder_beside_the_first_run(two_runs, capsys):
    a, b = two_runs["single-label", "se-net"], two_runs["single-label", "plain"]
    assert rsml(["test", a, b, "--resamples", "10", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert Path(answer["folder"]).resolve() == Path(a).parent / "test-se-net-single-label-plain-single-label"
    assert {file.name for file in Path(answer["folder"]).iterdir()} == FILES
    assert {row["label"] for row in answer["per_label"]} == {"water", "forest", "sand"}
    assert "edges" not in answer["per_label"][0] and answer["gain_and_edges"] is None


def test_without_models_and_images_the_tables_stay(two_runs, scene_folder, tmp_path, capsys, caplog):
    plain = two_runs["multi-label", "plain"]
    part = Run(plain).samples.part("test")
    a, b = (with_scores(plain, tmp_path, part.labels, 0, name) for name in "ab")
    assert rsml(["test", a, b, "--resamples", "10", "--no-figures"]) == 0
    assert {file.name for file in (tmp_path / "test-a-b").iterdir()} == {"per_label.csv", "per_label.md"}
    Path(a, "best.keras").write_bytes(b"no model")
    for name in "ab":  # as if their images had been moved
        for file in (Run(tmp_path / name).files.samples, Run(tmp_path / name).files.predictions):
            file.write_text(file.read_text().replace(str(scene_folder), str(tmp_path / "gone")))
    assert rsml(["test", a, b, "--resamples", "10"]) == 0
    said = of_rsml(caplog)
    assert [line.split(" could")[0] for line in said] == ["figure panel", "figure feature_maps"]
    assert "gone" in said[0] and "best.keras" in said[1] and not any("\n" in line for line in said)
    assert {file.name for file in (tmp_path / "test-a-b").iterdir()} == FILES - {"panel.jpg", "feature_maps.png"}
    assert rsml(["test", a, a, "--resamples", "10", "--no-figures", "--show"]) == 0
    assert "a: " + f"{tmp_path.name}/a (a)" in capsys.readouterr().out
    (tmp_path / "file").write_text("")
    assert rsml(["test", a, b, "--out", str(tmp_path / "file")]) == 2
    assert "is no folder" in capsys.readouterr().err


def test_the_commands_of_the_ablations_plan_the_tables_of_the_paper(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    section = text.split("## SIGNA's ablations, one command each")[1].split("\n## ")[0]
    lines = [line for line in section.replace("\\\n", " ").splitlines() if line.startswith("rsml compare")]
    options = [make_parser().parse_args(shlex.split(line)[1:]) for line in lines]
    names = ["signa-heads", "signa-stage", "signa-gnn"]
    values = [
        ("heads", [1, 2, 4, 6, 8]),
        ("after", [("stage1",), ("stage2",), ("stage3",), ("stage4",)]),
        ("gnn", ["gcn", "graphsage", "gat"]),
    ]
    assert [one.name for one in options] == names
    for one, (key, expected) in zip(options, values, strict=True):
        variants = {name: settings for name, *settings in [*one.variant, *grid(one.grid)]}

        def make(settings, one=one):
            return read_experiment(one.config, [*one.set, *settings])[0]

        planned = [experiment for _, experiment in _plan(make, variants, one.seeds, one.curve, tmp_path)]
        assert len({experiment.name for experiment in planned}) == len(planned) == 3 * 2 * len(expected)
        for backbone in ("resnet18", "resnet50"):
            own = [e for e in planned if e.model.backbone == backbone and e.seed == 0]
            assert [getattr(e.methods[0], key) for e in own] == expected
            assert {e.training.epochs for e in own} == {80} and {e.data.fractions for e in own} == {(70, 10, 20)}
