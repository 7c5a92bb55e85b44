import re
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rsml.cli.main import main as rsml
from rsml.config import Data, Experiment
from rsml.mapping.scenes import native_window
from rsml.run import Run
from tests.mapping.test_mosaic import noise, probabilities, tiny_model, write


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    file = tmp_path_factory.mktemp("model") / "tiny.keras"
    tiny_model().model.save(file)
    return str(file)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return write(tmp_path_factory.mktemp("large") / "large.tif", noise(1024, 1030), tiled=True)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rsml.mapping.job.quicklook", lambda *_: Figure(figsize=(1, 1)))


def run(*arguments):
    return rsml(["predict", *map(str, arguments)])


def test_large_georeferenced_rasters_are_mapped_and_small_images_labelled(checkpoint, large, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(large, folder / "large.tif")
    write(folder / "small.tif", noise(256, 256))
    Image.fromarray(noise(1100, 1100)).save(folder / "photo.jpg")
    assert run(checkpoint, folder, "--window", 256) == 0
    assert pd.read_csv("predictions.csv")["path"].tolist() == [str(folder / "photo.jpg"), str(folder / "small.tif")]
    assert probabilities(tmp_path / "large-labels")[0].shape == (8, 9, 3)
    assert "large.tif is a large georeferenced raster and is mapped; --whole labels it as one image" in caplog.text
    assert "map in large-labels/" in capsys.readouterr().err


def test_whole_labels_a_scene_as_one_image(checkpoint, large, tmp_path):
    assert run(checkpoint, large, "--whole") == 0
    assert len(pd.read_csv("predictions.csv")) == 1 and not (tmp_path / "large-labels").exists()


def test_a_command_of_scenes_alone_writes_no_table_of_images(checkpoint, large, tmp_path):
    assert run(checkpoint, large, "--out", "here", "--window", 200, "--step", 200) == 0
    assert (tmp_path / "here" / "tiles.gpkg").is_file() and not (tmp_path / "predictions.csv").exists()


def test_a_folder_of_scenes_is_mapped_into_folders(checkpoint, tmp_path, capsys):
    for name in ("a/b04", "a/one", "b/b04"):
        (tmp_path / "scenes" / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "scenes" / f"{name}.tif", noise(40, 50))
    write(tmp_path / "scenes" / "small.tif", noise(10, 50))
    assert run(checkpoint, "scenes", "--map", "--out", "maps") == 3
    assert sorted(file.parent.name for file in tmp_path.glob("maps/*/map.json")) == ["a-b04", "b-b04", "one"]
    assert "skipped: scenes/small.tif: 50 x 10 pixels, smaller than a window of 16 x 16" in capsys.readouterr().err
    assert run(checkpoint, "scenes/a", "--map", "--out", "others") == 0
    assert run(checkpoint, ".", "--map", "--out", "maps of all") == 3  # the maps below are no scenes
    assert len(list(tmp_path.glob("maps of all/*/map.json"))) == 3
    shutil.copy("scenes/a/one.tif", "scenes/a/one.jp2")
    capsys.readouterr()
    assert run(checkpoint, "scenes/a", "--map", "--out", "more") == 2
    assert re.search(r"one\.\w+ and .*one\.\w+: their maps would go to one folder", capsys.readouterr().err)


def test_none_that_can_be_mapped_is_bad_input(checkpoint, tmp_path, capsys):
    for name in "ab":
        write(tmp_path / f"{name}.tif", noise(10, 50))
    assert run(checkpoint, ".", "--map") == 2
    assert "none of 2 scenes can be mapped, the first: ./a.tif" in capsys.readouterr().err


def test_bands_and_range_are_read_from_text(checkpoint, tmp_path, capsys):
    write(tmp_path / "scene.tif", noise(40, 40, 4).astype(np.uint16) * 10)
    assert run(checkpoint, "scene.tif", "--map", "--bands", "4,3,1", "--value-range", "0,2550") == 0
    capsys.readouterr()
    for option, text in (("--bands", "4;3"), ("--value-range", "0"), ("--bands", ""), ("--bands", "0")):
        assert run(checkpoint, "scene.tif", "--map", option, text) == 2
        assert re.match(f"error: {option}: .*expected", capsys.readouterr().err)


def test_map_options_without_a_scene_are_reported_to_do_nothing(checkpoint, tmp_path, caplog):
    caplog.set_level("INFO")
    write(tmp_path / "scene.tif", noise(40, 40))
    assert run(checkpoint, "scene.tif", "--window", 20) == 0
    assert "none was mapped; --map maps them all" in caplog.text


def test_the_window_is_that_of_the_training_images(multilabel_csv, tmp_path):
    model = tiny_model()
    assert native_window(model, None) == ((16, 16), "the model's input")
    experiment = Experiment(name="r", data=Data(source=str(multilabel_csv), task="multi-label", image_size=16))
    run = Run.start(experiment, root=tmp_path)
    from rsml.data.source import load_samples

    run.write_samples(load_samples(experiment.data))
    assert native_window(model, run) == ((32, 32), "the size of the training images")
    moved = run.files.origin.read_text().replace('"root": "', '"root": "/nowhere')
    run.files.origin.write_text(moved)
    text = run.files.samples.read_text().replace("/tmp", "/nowhere")
    run.files.samples.write_text(text)
    assert native_window(model, run) == ((16, 16), "the model's input")
