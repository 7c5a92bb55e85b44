import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import rsml.cli.faults
from rsml.config import Data, Experiment, Training
from rsml.data.find_images import find_images
from rsml.data.images import decode
from rsml.layers import SIGNA, ScenePredictions
from rsml.prediction.scene_model import SceneModel, align, label_images, measure_split, open_model, split_inputs
from rsml.training.loop import train
from rsml.utils.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(multilabel_csv, tmp_path_factory):
    experiment = Experiment(
        name="wet",
        data=Data(source=str(multilabel_csv), task="multi-label", image_size=32),
        training=Training(epochs=4, batch_size=4, learning_rate=2e-3),
        evaluation={"figures": False, "resamples": 0},
    )
    return train(experiment, root=tmp_path_factory.mktemp("checkpoint"))


OPTIONS = {"out": None, "as_json": False, "batch_size": 4, "trust": False}


def label(run, images, as_json=False):
    return label_images(SceneModel.load(run.files.best), find_images(images), out=None, as_json=as_json, batch_size=4)


def test_a_folder_is_labelled_and_a_bad_image_is_skipped(run, scene_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("water00.png", "water01.png"):
        (tmp_path / name).write_bytes((scene_folder / "water" / name).read_bytes())
    (tmp_path / "broken.png").write_bytes(b"not an image")
    assert label(run, images=["."]) == 3
    said = capsys.readouterr()
    assert "broken.png" in said.err and "1 skipped" in said.err
    table = pd.read_csv("predictions.csv")
    assert table["path"].tolist() == ["./water00.png", "./water01.png"]
    assert list(table.columns) == ["path", "score water", "score trees", "score grass", "water", "trees", "grass"]
    expected = keras.models.load_model(run.files.best).predict(
        np.stack([decode(path) for path in table["path"]]), verbose=0
    )
    np.testing.assert_allclose(table.filter(like="score ").to_numpy(), expected, atol=2e-6)
    np.testing.assert_array_equal(table[["water", "trees", "grass"]].to_numpy(), expected > 0.5)


def test_json_lines_hold_the_same(run, scene_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    image = str(scene_folder / "forest" / "forest03.png")
    assert label(run, images=[image], as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == image
    assert told["labels"] == [name for name, score in told["scores"].items() if score > 0.5]


def test_images_of_other_sizes_and_kinds_are_taken(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (90, 41), 120).save("grey.tif")
    Image.new("RGBA", (20, 20), (1, 2, 3, 255)).save("alpha.png")
    Image.new("RGB", (64, 64)).save("named wrongly.jpg", format="PNG")
    assert label(run, images=["*.tif", "alpha.png", "named wrongly.jpg"]) == 0
    assert len(pd.read_csv("predictions.csv")) == 3


def test_the_runs_test_part_is_measured(run, capsys):
    options = {**OPTIONS, "data": None, "label_file": None, "root": None, "split": "test", "as_json": True}
    assert measure_split(str(run.folder), **options) == 0
    told = json.loads(capsys.readouterr().out)
    kept = json.loads(run.files.metrics.read_text())["test"]
    assert told["images"] == 6
    assert told["metrics"]["example_f1"] == pytest.approx(kept["metrics"]["example_f1"])


def test_other_data_in_another_spelling_and_order_is_measured_alike(run, multilabel_csv, tmp_path, capsys):
    table = pd.read_csv(multilabel_csv).rename(columns={"trees": "Tree", "water": "waters"})
    table = table[["path", "grass", "Tree", "waters"]].iloc[:5]
    other = tmp_path / "other.csv"
    table.to_csv(other, index=False)
    options = {**OPTIONS, "data": str(other), "label_file": None, "root": None, "split": "all", "as_json": True}
    assert measure_split(str(run.folder), **options | {"out": str(tmp_path / "p.csv")}) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 5


def test_data_with_other_labels_is_refused(run):
    scene_model, _ = open_model(str(run.folder))
    samples = run.read_samples()
    with pytest.raises(UserError, match="ice"):
        align(replace(samples, label_names=("water", "trees", "ice")), scene_model)


def test_the_model_is_told_from_the_images(run, scene_folder):
    assert split_inputs([str(run.folder), "a.png"]) == (str(run.folder), ["a.png"])
    assert split_inputs(["model.keras"]) == ("model.keras", [])
    assert split_inputs([str(scene_folder)]) == (None, [str(scene_folder)])
    assert split_inputs([]) == (None, [])


def test_h5_gives_the_same_scores(run, tmp_path):
    model = keras.models.load_model(run.files.best)
    file = tmp_path / "model.h5"
    model.save(file)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    scene_model = SceneModel.load(file)
    assert scene_model.labels == ("water", "trees", "grass")
    np.testing.assert_allclose(
        scene_model.model.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )


def test_a_graph_of_other_labels_is_refused():
    image = keras.Input((32, 32, 3))
    x = SIGNA(np.zeros((4, 4)), np.eye(4), heads=1, name="attention")(keras.layers.Conv2D(8, 3)(image))
    logits = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, ScenePredictions(["sea", "sand"])(logits))
    with pytest.raises(UserError, match=r"'attention' holds a graph of 4 labels, but the model has 2"):
        SceneModel.of(model)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("a.keras", None, "a.keras"), ("a.h5", b"text", "a.h5"), ("a.keras", b"PK\x03\x04", "a.keras")],
)
def test_what_is_no_checkpoint_is_one_line(tmp_path, name, content, said):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=said) as fault:
        SceneModel.load(file)
    assert "\n" not in str(fault.value)


@pytest.fixture(scope="module")
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


def script(monkeypatch, *arguments):
    """Runs predict.py in this process and returns its exit code."""
    monkeypatch.syspath_prepend(ROOT)
    import predict

    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments)])
    return predict.main()


def test_a_model_of_another_hand_asks_for_class_names(foreign, scene_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert script(monkeypatch, foreign, "--data", scene_folder) == 2
    said = capsys.readouterr().err
    assert "names no labels; it has 3 classes" in said and "--labels" in said and said.count("\n") == 1
    assert script(monkeypatch, foreign, "--data", scene_folder, "--labels", "forest,sand") == 2
    assert "has 3 classes, but there are 2 label names" in capsys.readouterr().err
    assert script(monkeypatch, foreign, "--data", scene_folder, "--labels", "forest,sand,snow") == 2
    assert "3 labels, not the model's 3 (unknown to it: water)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_of_another_hand_is_measured_and_printed_plainly(foreign, scene_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = ["--labels", scene_folder, "--plain"]
    assert script(monkeypatch, foreign, "--data", scene_folder, *told) == 0
    said = capsys.readouterr().out
    table = pd.read_csv("predictions.csv")
    chosen = table[["forest", "sand", "water"]].idxmax(axis=1)
    plain = [line for line in said.splitlines() if line.startswith("Image ")]
    assert plain == [f"Image {number} = {name}" for number, name in enumerate(chosen, 1)]
    truth = [Path(path).parent.name for path in table["path"]]
    right = 100 * np.mean(chosen == truth)
    assert 60 < right < 70 and f"{right:.2f}" in said.split("part:")[1]
    assert all(name in said.split("part:")[1] for name in ("forest", "sand", "water", "accuracy"))


def test_what_is_said_of_an_ice_file_stays_out_of_the_results(foreign, scene_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scaling = keras.models.load_model(foreign)
    model = keras.Sequential([keras.Input((32, 32, 3)), *scaling.layers[1:]])  # takes pixels / 255
    model.save("ice.h5")
    with h5py.File("ice.h5", "r+") as file:
        file.attrs["keras_version"] = b"2.2.5"
        file.attrs["training_config"] = json.dumps({"loss": "New_loss3"}).encode()
    monkeypatch.setattr(logging.root, "handlers", [])
    image = scene_folder / "water" / "water00.png"
    assert script(monkeypatch, "ice.h5", image, "--labels", "forest,sand,water", "--json") == 0
    said = capsys.readouterr()
    assert "ice.h5: an ICE network of Keras 2; preprocessing 'unit'" in said.err
    expected = scaling.predict(decode(image)[None].astype("float32"), verbose=0)[0]
    np.testing.assert_allclose(list(json.loads(said.out)["scores"].values()), expected, atol=2e-6)


def test_images_are_printed_plainly_in_order(foreign, scene_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = [scene_folder / "water" / "water00.png", scene_folder / "forest" / "forest01.png"]
    assert script(monkeypatch, foreign, *images, "--labels", "forest,sand,water", "--plain") == 0
    assert capsys.readouterr().out == "Image 1 = water\nImage 2 = forest\n"
    assert script(monkeypatch, foreign, *images, "--labels", "a,b,c", "--plain", "--json") == 2


def test_what_a_model_was_told_is_kept_in_a_saved_one(foreign, scene_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert script(monkeypatch, foreign, "--labels", "forest,sand,water", "--save", "own.keras") == 0
    again = SceneModel.load("own.keras")
    images = np.stack([decode(path) for path in sorted(scene_folder.glob("*/*0.png"))])
    theirs = keras.models.load_model(foreign).predict(images.astype("float32"), verbose=0)
    np.testing.assert_allclose(again.model.predict(images, verbose=0), theirs, atol=1e-6)
    assert (again.labels, again.task) == (("forest", "sand", "water"), "single-label")
    assert script(monkeypatch, "own.keras", "--labels", "a,b,c", "--data", scene_folder) == 2
    assert "--label-file" in capsys.readouterr().err
    assert script(monkeypatch, foreign, "--labels", "a,b,c", "--save", "own.txt") == 2
    assert sorted(os.listdir()) == ["own.keras"]


def test_a_wrong_name_does_not_empty_an_older_table(foreign, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("predictions.csv").write_text("kept")
    assert script(monkeypatch, foreign, "nothing.png", "--labels", "a,b,c") == 2
    assert Path("predictions.csv").read_text() == "kept"


def test_downloaded_checkpoints_are_named_where_no_run_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "NasNet_Mobile.h5").write_bytes(b"")
    assert script(monkeypatch) == 2
    assert "python predict.py checkpoint/NasNet_Mobile.h5" in capsys.readouterr().err


def test_the_script_reads_a_list_from_stdin_and_exits_3(run, scene_folder, tmp_path):
    listed = f"{scene_folder}/sand/sand00.png\n{scene_folder}/no such.png\n"
    done = subprocess.run(
        [sys.executable, str(ROOT / "predict.py"), str(run.folder), "-", "--json"],
        input=listed, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["path"].endswith("sand00.png")
    assert "no such.png" in done.stderr


def test_missing_inputs_are_one_line(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkdir("empty")
    for images, said in ((["nothing.png"], "no such image"), (["empty"], "no image"), (["@list"], "list not readable")):
        assert rsml.cli.faults.run(lambda images=images: label(run, images=images)) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
