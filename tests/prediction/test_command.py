"""`rsml predict` and `rsml convert` from the outside."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest

from rsml.cli.main import main as rsml
from rsml.data.images import decode
from rsml.prediction.scene_model import SceneModel

ROOT = Path(__file__).parents[2]
NAMES = ["--class-names", "forest,sand,water"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def call(*words):
    return rsml([str(word) for word in words])


@pytest.fixture
def ours(foreign, tmp_path, capsys):
    """The model of another hand, converted."""
    assert call("convert", foreign, "ours.keras", *NAMES) == 0
    assert capsys.readouterr().out == "ours.keras: single-label, 3 labels: forest, sand, water\n"
    return tmp_path / "ours.keras"


def test_json_lines_hold_what_the_table_holds(run, scene_folder, capsys):
    image = scene_folder / "forest" / "forest03.png"
    assert call("predict", run.folder, "--json", image, "--batch-size", 4) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told["path"] == str(image)
    assert told["labels"] == [name for name, score in told["scores"].items() if score > 0.5]
    assert "1 image labelled" in said.err


def test_which_run_is_used_is_printed(run, scene_folder, capsys, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.chdir(run.folder.parent.parent)
    monkeypatch.setattr("rsml.run.Run.newest", classmethod(lambda cls: cls.open(run.folder)))
    assert call("predict", scene_folder / "forest", "--whole") == 0
    assert f"model: {run.folder}" in caplog.text
    assert "12 images labelled" in capsys.readouterr().err


def test_the_runs_test_part_is_measured(run, capsys):
    assert call("predict", run.folder, "--split", "test", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    kept = json.loads(run.files.metrics.read_text())["test"]
    assert told["images"] == 6
    assert told["metrics"]["example_f1"] == pytest.approx(kept["metrics"]["example_f1"])


def test_all_inputs_are_checked_before_the_first_is_labelled(run, scene_folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "predictions.csv").write_text("kept")
    other = run.folder.parent
    for wrong, said in (
        ("nothing.png", "no such image"),
        ("*.tif", "no such image"),
        ("empty", "no image in this folder"),
        ("@list", "list not readable"),
        (other, f"a folder of 1 run (wet); name one: {run.folder}"),
        (run.folder, "a run folder, not images"),
    ):
        assert call("predict", run.folder, scene_folder / "sand", wrong) == 2
        error = capsys.readouterr()
        assert said in error.err and error.err.count("\n") == 1 and not error.out
    assert call("predict", other) == 2
    assert "a folder of 1 run" in capsys.readouterr().err
    assert Path("predictions.csv").read_text() == "kept"


def test_the_pictures_of_a_run_are_no_photographs(run, scene_folder, tmp_path):
    made = tmp_path / "work" / "checkpoint" / "one" / "figures"
    made.mkdir(parents=True)
    (made.parent / "config.json").write_text("{}")
    (made.parent / "samples.csv").write_text("")
    for place in (made / "curves.png", tmp_path / "work" / "photo.png"):
        place.write_bytes((scene_folder / "sand" / "sand00.png").read_bytes())
    assert call("predict", run.folder, "work") == 0
    assert pd.read_csv("predictions.csv")["path"].tolist() == ["work/photo.png"]
    assert call("predict", run.folder, made / "curves.png") == 0  # named itself, it is meant
    assert len(pd.read_csv("predictions.csv")) == 1


def test_a_list_is_read_from_stdin_and_exit_code_3_means_bad_images(run, scene_folder):
    listed = f"{scene_folder}/sand/sand00.png\n{scene_folder}/no such.png\n"
    done = subprocess.run(
        [sys.executable, str(ROOT / "predict.py"), str(run.folder), "-", "--json"],
        input=listed, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["path"].endswith("sand00.png")
    assert f"model: {run.folder}" in done.stderr and "no such.png" in done.stderr
    assert "cuda" not in done.stderr and "%|" not in done.stderr


def test_a_model_of_another_hand_asks_for_class_names(foreign, scene_folder, tmp_path, capsys):
    assert call("predict", foreign, scene_folder / "sand") == 2
    said = capsys.readouterr().err
    assert "names no labels; it has 3 classes" in said and f"rsml convert {foreign}" in said and said.count("\n") == 1
    assert call("convert", foreign, "x.keras", "--class-names", "forest,sand") == 2
    assert "has 3 classes, but there are 2 label names" in capsys.readouterr().err
    assert call("convert", foreign, "x.txt", *NAMES) == 2
    assert "x.txt: expected a file ending in .keras or .h5" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert call("convert", foreign, "x.keras", "--class-names", "forest,sand,snow") == 0
    capsys.readouterr()
    assert call("predict", "x.keras", "--data", scene_folder) == 2
    assert "3 labels, not the model's 3 (unknown to it: water)" in capsys.readouterr().err


def test_labelled_data_need_no_class_names(foreign, scene_folder, capsys):
    assert call("predict", foreign, "--data", scene_folder, "--plain") == 0
    said = capsys.readouterr().out
    table = pd.read_csv("predictions.csv")
    chosen = table[["forest", "sand", "water"]].idxmax(axis=1)
    plain = [line for line in said.splitlines() if line.startswith("Image ")]
    assert plain == [f"Image {number} = {name}" for number, name in enumerate(chosen, 1)]
    truth = [Path(path).parent.name for path in table["path"]]
    right = 100 * np.mean(chosen == truth)
    assert 60 < right < 70 and f"{right:.2f}" in said.split("all part of")[1]
    assert all(name in said for name in ("forest", "sand", "water", "accuracy"))


def test_the_quick_start_of_the_ice_authors_is_literal(foreign, scene_folder, tmp_path, capsys):
    """One downloaded file in checkpoint/, data/<set>/valid, bare `predict`: the accuracy."""
    (tmp_path / "checkpoint").mkdir()
    keras.models.load_model(foreign).save("checkpoint/NasNet.h5")
    assert call("predict") == 2
    assert "no data/<set>/valid" in capsys.readouterr().err
    for part in ("train", "valid"):
        for name in ("forest", "sand", "water"):
            (tmp_path / "data" / "UCMerced" / part / name).mkdir(parents=True)
            number = "00" if part == "train" else "01"
            image = scene_folder / name / f"{name}{number}.png"
            (tmp_path / "data" / "UCMerced" / part / name / image.name).write_bytes(image.read_bytes())
    assert call("predict") == 0
    said = capsys.readouterr().out
    assert "valid part of data/UCMerced" in said and "accuracy" in said and "3 images, 3 classes" in said
    (tmp_path / "checkpoint" / "other.h5").write_bytes(b"")
    assert call("predict") == 2
    assert "2 checkpoint files; name one: rsml predict checkpoint/NasNet.h5" in capsys.readouterr().err


def test_what_is_logged_of_an_ice_file_stays_out_of_the_results(foreign, scene_folder, monkeypatch, capsys):
    scaling = keras.models.load_model(foreign)
    model = keras.Sequential([keras.Input((32, 32, 3)), *scaling.layers[1:]])  # takes pixels / 255
    model.save("ice.h5")
    with h5py.File("ice.h5", "r+") as file:
        file.attrs["keras_version"] = b"2.2.5"
        file.attrs["training_config"] = json.dumps({"loss": "New_loss3"}).encode()
    monkeypatch.setattr(logging.root, "handlers", [])
    image = scene_folder / "water" / "water00.png"
    assert call("convert", "ice.h5", *NAMES, "ice.keras") == 0
    assert "ice.h5: an ICE network of Keras 2; preprocessing 'unit'" in capsys.readouterr().err
    assert call("predict", "ice.keras", image, "--json") == 0
    expected = scaling.predict(decode(image)[None].astype("float32"), verbose=0)[0]
    scores = json.loads(capsys.readouterr().out)["scores"]
    np.testing.assert_allclose(list(scores.values()), expected, atol=2e-6)


def test_images_are_printed_plainly_in_order(ours, scene_folder, capsys):
    images = [scene_folder / "water" / "water00.png", scene_folder / "forest" / "forest01.png"]
    assert call("predict", ours, "--plain", *images) == 0
    assert capsys.readouterr().out == "Image 1 = water\nImage 2 = forest\n"
    assert call("predict", ours, *images, "--plain", "--json") == 2


def test_a_converted_model_keeps_its_class_names(foreign, ours, scene_folder, capsys):
    again = SceneModel.load(ours)
    images = np.stack([decode(path) for path in sorted(scene_folder.glob("*/*0.png"))])
    theirs = keras.models.load_model(foreign).predict(images.astype("float32"), verbose=0)
    np.testing.assert_allclose(again.model.predict(images, verbose=0), theirs, atol=1e-6)
    assert (again.labels, again.task) == (("forest", "sand", "water"), "single-label")
    assert call("convert", ours, "again.keras", *NAMES) == 2
    assert "an rsml model, which says by itself its class names" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["ours.keras"]
