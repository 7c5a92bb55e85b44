"""Every fault a user can cause, through the command's own door: one line that names the thing, exit code 2."""

import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsml.cli.main import main as rsml


def picture(path, seed=0, size=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def classes(tmp_path):
    """Two class folders of six images."""
    for number in range(12):
        picture(tmp_path / "data" / "ab"[number % 2] / f"{number}.png", seed=number)
    return tmp_path / "data"


@pytest.fixture
def fails(tmp_path, monkeypatch, capsys):
    """Runs a command that must fail, in an empty folder, and returns its one line."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        assert rsml([str(word) for word in words]) == 2
        said = capsys.readouterr().err.splitlines()
        assert len([line for line in said if line.startswith("error: ")]) == 1, said
        assert "Traceback" not in "".join(said)
        return said[-1]

    return run


def offline(*_, **__):
    raise OSError("no network")


SCENES = Path(__file__).parents[2] / "configs" / "scenes.py"


def training(source, *settings):
    defaults = ["methods=plain", f"data.source={source}", "data.image_size=32", "training.epochs=1"]
    return ["train", "--config", SCENES, "--set", *defaults, *settings]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["data.source=nowhere"], "nowhere"),
        (["model.backbone=resnet49"], "resnet49"),
        (["model.backbone=nasnetmobile", "data.image_size=16"], "nasnet"),
        (["model.weights=nothing.h5"], "nothing.h5"),
        (["model.backbone=resnet50", "model.weights=imagenet"], "weights= a file"),
        (["model.backbone=small", "model.weights=imagenet"], "--set model.weights=None"),
        (["methods=ice"], "raise data.image_size to 97 or more"),
        (["methods=signa"], "occur together"),
        (["training.monitor=mAP"], "mAP"),
        (["data.fractions=[70,20,20]"], "110"),
        (["data.split_files=['a','b','c']"], "a"),
        (["name=../up"], "name"),
    ],
)
def test_train_refuses(fails, classes, settings, said, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert said.lower() in fails(*training(classes, *settings)).lower()
    assert not Path("checkpoint").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda parts: shutil.rmtree(parts / "valid" / "b"), "valid lacks b of train"),
        (lambda parts: (parts / "valid" / "b").rename(parts / "valid" / "c"), "train lacks c of valid"),
        (lambda parts: (parts / "train" / "c").mkdir(), "without any image (such as train/c)"),
        (lambda parts: [image.unlink() for image in (parts / "valid").rglob("*.png")], "(such as valid)"),
    ],
)
def test_train_refuses_parts_that_do_not_fit_together(fails, classes, tmp_path, change, said):
    for part in ("train", "valid"):
        shutil.copytree(classes, tmp_path / "parts" / part)
    change(tmp_path / "parts")
    assert said in fails(*training(tmp_path / "parts"))
    assert not Path("checkpoint").exists()


def test_train_refuses_a_folder_without_images(fails, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(*training(tmp_path / "empty"))


def test_train_refuses_a_class_with_one_image(fails, classes):
    picture(classes / "lonely" / "only.png", seed=99)
    assert "lonely" in fails(*training(classes))


def test_train_refuses_bands_that_images_do_not_have(fails, classes):
    assert "band" in fails(*training(classes, "data.bands=[4]"))


def test_train_names_a_bad_image(fails, classes):
    (classes / "a" / "0.png").write_bytes(b"no image at all")
    assert "0.png" in fails(*training(classes))


def test_train_refuses_a_name_in_use(fails, classes):
    os.makedirs("checkpoint/scenes")
    Path("checkpoint/scenes/config.json").write_text('{"seed": 7}')
    line = fails(*training(classes))
    assert "checkpoint/scenes" in line and "seed: 7 there, 0 now" in line and "--fresh" in line


def test_train_refuses_a_config_with_a_syntax_error(fails, tmp_path):
    (tmp_path / "bad.py").write_text("experiment = (\n")
    assert "bad.py, line 1" in fails("train", "--config", "bad.py")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_train_says_when_it_may_not_write(fails, classes, tmp_path):
    (tmp_path / "checkpoint").mkdir(mode=0o500)
    assert "no permission" in fails(*training(classes))


LABELS = {
    "disagree": ("path,sea,sand\na/0.png,1,0\na/0.png,0,1\n", "0.png"),
    "not binary": ("path,sea,sand\na/0.png,1,2\n", "'2'"),
    "without images": ("path,sea,sand\na/0.png,1,0\nb/none.png,1,0\n", "none.png"),
    "no label column": ("path\na/0.png\n", "label"),
    "no path column": ("image of,sea\n", "labels.csv"),
    "empty": ("", "labels.csv"),
}


@pytest.mark.parametrize("case", LABELS)
def test_divide_refuses_a_label_file(fails, classes, tmp_path, case):
    content, said = LABELS[case]
    (classes / "labels.csv").write_text(content)
    line = fails("divide", classes, tmp_path / "divided", "--labels", classes / "labels.csv")
    assert said in line or "listed in" in line
    assert not (tmp_path / "divided" / "samples.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--train", "80", "--valid", "30"], "110"), (["--train", "-10", "--test", "110"], "-10")],
)
def test_divide_refuses_fractions(fails, classes, tmp_path, arguments, said):
    assert said in fails("divide", classes, tmp_path / "divided", *arguments)


def test_predict_says_what_there_is_to_do(fails, tmp_path):
    picture(tmp_path / "image.png")
    assert "train one with" in fails("predict")
    assert "model.keras" in fails("predict", "model.keras", "image.png")
    (tmp_path / "model.h5").write_bytes(b"text")
    assert "model.h5" in fails("predict", "model.h5", "image.png")
