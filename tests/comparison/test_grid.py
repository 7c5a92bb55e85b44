import re

import numpy as np
import pandas as pd
import pytest

from rsml.comparison.apart import measure_apart
from rsml.comparison.grid import Comparison, compare, grid, grid_table, train_and_measure
from rsml.config import Data, Experiment, Training
from rsml.utils.errors import UserError


def test_the_table_is_mean_deviation_and_paired_difference():
    runs = pd.DataFrame(
        {
            "variant": ["plain", "signa", "plain", "signa"],
            "seed": [0, 0, 1, 1],
            "example_f1": [0.80, 0.82, 0.90, 0.93],
        }
    )
    row = Comparison(runs, ["example_f1"]).markdown().splitlines()[3]
    deviation, of_difference = (100 * np.std(values, ddof=1) for values in ([0.82, 0.93], [0.02, 0.03]))
    assert row == f"| signa | 2 | 87.50 ± {deviation:.2f} | +2.50 ± {of_difference:.2f} |"


def test_a_seed_that_one_variant_lacks_is_left_out_of_the_difference():
    runs = pd.DataFrame({"variant": ["a", "b", "b"], "seed": [0, 0, 1], "accuracy": [0.5, 0.6, 0.9]})
    assert grid_table(runs, ["accuracy"])[1][1] == ["b", "2", "75.00 ± 21.21", "+10.00"]


def test_an_unknown_metric_names_the_nearest():
    runs = pd.DataFrame({"variant": ["a"], "seed": [0], "accuracy": [0.5]})
    with pytest.raises(UserError, match=r"--metric acuracy.*did you mean 'accuracy'"):
        grid_table(runs, ["acuracy"])


@pytest.fixture
def experiment(multilabel_csv):
    return Experiment(
        name="any",
        data=Data(source=str(multilabel_csv), task="multi-label", image_size=32),
        training=Training(epochs=1, batch_size=8),
        evaluation={"figures": False, "page": False, "resamples": 0},
    )


def test_interrupted_it_goes_on_with_what_is_missing(experiment, tmp_path, caplog):
    caplog.set_level("INFO")
    trained = []

    def counting(variant, *options):
        trained.append(variant.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train_and_measure(variant, *options)

    variants = {"plain": ["methods=plain"], "one-head": ["methods=signa", "methods.signa.heads=1"]}
    with pytest.raises(KeyboardInterrupt):
        compare(experiment, variants, [0], root=tmp_path, measure=counting)
    first = (tmp_path / "plain-seed0" / "best.keras").stat().st_mtime_ns
    done = compare(experiment, variants, [0], root=tmp_path, measure=counting)
    assert trained == ["plain-seed0", "one-head-seed0", "one-head-seed0"]
    assert done.runs[["variant", "seed"]].to_numpy().tolist() == [["plain", 0], ["one-head", 0]]
    assert (tmp_path / "plain-seed0" / "best.keras").stat().st_mtime_ns == first
    assert "| one-head | 1 |" in (tmp_path / "table.md").read_text()
    assert "One seed: differences of this size may be chance" in done.text()
    assert re.search(r"\[2 of 2, about \d+ \w+ left\] one-head-seed0", caplog.text)


def test_a_wrong_setting_is_met_before_anything_is_trained(experiment, tmp_path):
    with pytest.raises(UserError, match="did you mean 'signa'"):
        compare(experiment, {"plain": [], "b": ["methods=sigma"]}, [0], root=tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_grid_is_every_combination():
    assert grid(["methods.signa.heads=1,2", "methods.signa.after=stage1,stage2+stage3"]) == [
        ["heads=1+after=stage1", "methods.signa.heads=1", "methods.signa.after=stage1"],
        ["heads=1+after=stage2+stage3", "methods.signa.heads=1", "methods.signa.after=stage2+stage3"],
        ["heads=2+after=stage1", "methods.signa.heads=2", "methods.signa.after=stage1"],
        ["heads=2+after=stage2+stage3", "methods.signa.heads=2", "methods.signa.after=stage2+stage3"],
    ]
    assert grid([]) == []
    with pytest.raises(UserError, match="expected key=value"):
        grid(["methods.signa.heads"])


def test_the_folder_of_another_experiment_is_met_before_anything_is_trained(experiment, tmp_path):
    (tmp_path / "b-seed0").mkdir()
    (tmp_path / "b-seed0" / "config.json").write_text(experiment.model_copy(update={"seed": 7}).text())
    with pytest.raises(UserError, match=r"b-seed0 was made with another config \(.*seed: 7 there, 0 now"):
        compare(experiment, {"a": [], "b": []}, [0], root=tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["b-seed0"]


@pytest.mark.slow
def test_each_run_has_a_process_of_its_own_and_a_complete_one_none(experiment, tmp_path, monkeypatch):
    first = compare(experiment, {"plain": []}, [0], root=tmp_path)
    assert (tmp_path / "plain-seed0" / "best.keras").is_file() and not list(tmp_path.glob(".*"))
    monkeypatch.setattr("subprocess.Popen", None)
    again = compare(experiment, {"plain": []}, [0], root=tmp_path)
    pd.testing.assert_frame_equal(first.runs, again.runs)


def test_a_process_that_fails_is_reported_with_its_run(experiment, tmp_path):
    broken = experiment.model_copy(update={"name": "gone", "data": Data(source="nowhere")})
    with pytest.raises(UserError, match=r"gone: nowhere: no such file or folder"):
        measure_apart(broken, tmp_path, "test", False)


def test_retrieval_and_neighbours_are_columns_like_the_others(experiment, tmp_path):
    options = {"root": tmp_path, "metrics": ["map@5", "knn_samples_f1"], "retrieval": True}
    table = compare(experiment, {"plain": []}, [0], measure=train_and_measure, **options).runs
    kept = pd.read_csv(tmp_path / "plain-seed0" / "predictions.csv")
    assert len(kept) == 6
    assert 0 < table["map@5"].item() <= 1 and 0 < table["knn_samples_f1"].item() <= 1
    assert "| variant | seeds | map@5 | vs plain | knn_samples_f1 | vs plain |" in (tmp_path / "table.md").read_text()


def test_a_path_in_a_grid_becomes_a_name_that_a_folder_can_have():
    (found,) = grid(["model.weights=checkpoint/geo kr/"])
    assert found == ["weights=geo-kr", "model.weights=checkpoint/geo kr/"]


def test_a_curve_trains_every_variant_at_every_value_and_compares_at_equal_ones(experiment, tmp_path):
    trained = {}

    def noted(variant, *_):
        trained[variant.name] = variant
        return {"task": "multi-label", "metrics": {"example_f1": variant.data.train_fraction}}

    variants = {"plain": ["methods=plain"], "se": ["methods=se-net"]}
    options = {"root": tmp_path, "metrics": ["example_f1"], "curve": "data.train_fraction=0.05,1"}
    table = compare(experiment, variants, [0, 1], measure=noted, **options).runs
    assert table[["variant", "data.train_fraction"]].to_numpy().tolist() == 2 * [
        ["plain", 0.05], ["se", 0.05], ["plain", 1.0], ["se", 1.0]
    ]  # fmt: skip
    one = trained["se+train_fraction=0.05-seed1"]
    assert one.data.train_fraction == 0.05 and one.methods[0].kind == "se-net" and one.seed == 1
    text = (tmp_path / "table.md").read_text()
    below, above = text.split("data.train_fraction = 1\n")
    assert "| se | 2 | 5.00 ± 0.00 | +0.00 ± 0.00 |" in below and "| se | 2 | 100.00 ± 0.00 |" in above
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_a_curve_needs_numbers(experiment, tmp_path):
    with pytest.raises(UserError, match=r"--curve methods: expected numbers, found 'plain'"):
        compare(experiment, {"a": []}, [0], root=tmp_path, curve="methods=plain,signa")


def test_what_is_counted_in_nats_is_not_shown_as_a_percentage():
    runs = pd.DataFrame({"variant": ["a"], "seed": [0], "kl_divergence": [0.25], "dominant_accuracy": [0.5]})
    assert grid_table(runs, ["kl_divergence", "dominant_accuracy"])[1][0] == ["a", "1", "0.25", "", "50.00", ""]
