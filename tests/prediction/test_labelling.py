from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsml.data.find_images import find_images
from rsml.data.images import decode
from rsml.prediction.labelling import align, label_images, measure_split
from rsml.prediction.scene_model import SceneModel, open_model
from rsml.utils.errors import UserError


def test_a_folder_is_labelled_and_a_bad_image_is_skipped(run, scene_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("water00.png", "water01.png"):
        (tmp_path / name).write_bytes((scene_folder / "water" / name).read_bytes())
    (tmp_path / "broken.png").write_bytes(b"not an image")
    shown = []
    done = label_images(
        SceneModel.load(run.files.best), find_images(["."]), batch_size=4, show=lambda *one: shown.append(one)
    )
    assert done.images == 2 and len(done.bad) == 1 and "broken.png" in str(done.bad[0])
    table = pd.read_csv(done.table)
    assert table["path"].tolist() == ["./water00.png", "./water01.png"] == [path for path, _ in shown]
    assert list(table.columns) == ["path", "score water", "score trees", "score grass", "water", "trees", "grass"]
    images = np.stack([decode(path) for path in table["path"]])
    expected = keras.models.load_model(run.files.best).predict(images, verbose=0)
    np.testing.assert_allclose(table.filter(like="score ").to_numpy(), expected, atol=2e-6)
    np.testing.assert_allclose([scores for _, scores in shown], expected, atol=2e-6)
    np.testing.assert_array_equal(table[["water", "trees", "grass"]].to_numpy(), expected > 0.5)


def test_images_of_other_sizes_and_kinds_are_taken(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (90, 41), 120).save("grey.tif")
    Image.new("RGBA", (20, 20), (1, 2, 3, 255)).save("alpha.png")
    Image.new("RGB", (64, 64)).save("named wrongly.jpg", format="PNG")
    images = find_images(["*.tif", "alpha.png", "named wrongly.jpg"])
    assert label_images(SceneModel.load(run.files.best), images).images == 3
    assert len(pd.read_csv("predictions.csv")) == 3


def test_other_data_in_another_spelling_and_order_is_measured_alike(run, multilabel_csv, tmp_path):
    table = pd.read_csv(multilabel_csv).rename(columns={"trees": "Tree", "water": "waters"})
    other = tmp_path / "other.csv"
    table[["path", "split", "grass", "Tree", "waters"]].to_csv(other, index=False)
    scene_model, _ = open_model(run.folder)
    done = measure_split(scene_model, data=other, out=tmp_path / "p.csv")
    own = measure_split(scene_model, run, out=tmp_path / "own.csv")
    assert (done.split, own.split, len(done.samples)) == ("test", "test", 6)
    assert done.summary["metrics"] == own.summary["metrics"]


def test_data_that_are_not_divided_are_measured_whole(run, multilabel_csv, tmp_path):
    pd.read_csv(multilabel_csv).drop(columns="split").iloc[:5].to_csv(tmp_path / "other.csv", index=False)
    done = measure_split(open_model(run.folder)[0], data=tmp_path / "other.csv", split="test", out=tmp_path / "p.csv")
    assert done.split == "all" and done.summary["images"] == 5


def test_data_with_other_labels_is_refused(run):
    scene_model, _ = open_model(str(run.folder))
    samples = run.read_samples()
    with pytest.raises(UserError, match="ice"):
        align(replace(samples, label_names=("water", "trees", "ice")), scene_model)


def test_a_part_that_is_empty_and_a_file_without_data_are_refused(run, multilabel_csv, tmp_path):
    scene_model, _ = open_model(run.files.best)
    with pytest.raises(UserError, match="a checkpoint file alone knows no data"):
        measure_split(scene_model)
    table = pd.read_csv(multilabel_csv)
    table[table["split"] != "valid"].to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(UserError, match="its valid part is empty; choose another with --split"):
        measure_split(scene_model, data=tmp_path / "other.csv", split="valid")
