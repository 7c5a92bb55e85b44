"""Published weights: torchvision's by their hash, satellite images' with their bands, EfficientNet-Lite2's."""

import hashlib
import io
import logging
import os
import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest

from rsml.config import Experiment
from rsml.layers import Preprocess
from rsml.methods import LabelContext
from rsml.models import load_backbone
from rsml.models.names import _OWN
from rsml.training import parts
from rsml.utils.errors import UserError
from rsml.weights.arrays import read_weights
from rsml.weights.published import IMAGENET, imagenet_file, sensor_of
from tests.data import make_lite2_features
from tests.weights.test_torch_features import recorded_state

DATA = os.environ.get("RSML_TEST_DATA")


@pytest.fixture
def caches(monkeypatch, tmp_path):
    """Empty folders for Keras's and PyTorch's files, and no network."""

    def no_network(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    return tmp_path


# ---- torchvision


def test_every_file_is_of_a_network_of_ours():
    assert set(IMAGENET["imagenet"]) | set(IMAGENET["imagenet_v2"]) <= set(_OWN)
    assert IMAGENET["imagenet"]["resnet50"] == "resnet50-0676ba61.pth"
    assert IMAGENET["imagenet_v2"]["resnet50"] == "resnet50-11ad3fa6.pth"
    assert len(IMAGENET["imagenet"]) == 21


def published_state(monkeypatch, tmp_path) -> bytes:
    """A weights file of ResNet-18, with the hash of its bytes in the table."""
    state, _ = recorded_state("torchvision-resnet18")
    np.savez(tmp_path / "state.npz", **state)
    data = (tmp_path / "state.npz").read_bytes()
    name = f"resnet18-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    monkeypatch.setitem(IMAGENET["imagenet"], "resnet18", name)
    return data


def test_a_file_is_fetched_once_and_its_weights_are_loaded(monkeypatch, caches):
    data, asked = published_state(monkeypatch, caches), []

    def answer(url, timeout):
        asked.append(url)
        return io.BytesIO(data)

    monkeypatch.setattr("urllib.request.urlopen", answer)
    for bands in (3, 4):
        backbone = load_backbone("resnet18", image_size=32, weights="imagenet", bands=bands)
        assert backbone.pretrained and backbone.report.layers == (40, 40)
    assert backbone.report.adapted == {"conv1": "from 3 to 4 bands"}
    name = IMAGENET["imagenet"]["resnet18"]
    assert asked == [f"https://download.pytorch.org/models/{name}"]
    assert sorted(path.name for path in (caches / "keras" / "models").iterdir()) == [name]


def test_pytorchs_own_cache_is_used(monkeypatch, caches):
    data = published_state(monkeypatch, caches)
    path = caches / "torch" / "hub" / "checkpoints" / IMAGENET["imagenet"]["resnet18"]
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert imagenet_file("resnet18") == path
    path.write_bytes(data[:-1])  # a file cut short has another hash
    with pytest.raises(UserError, match=rf"could not be fetched from https.*{path.name}"):
        imagenet_file("resnet18")


def test_a_later_recipe_trains_like_any_other_start(monkeypatch):
    """Nothing but the backbone is in a file that is published."""
    monkeypatch.setattr(parts, "load_backbone", lambda *_, **__: load_backbone("resnet18", image_size=32))
    experiment = Experiment(name="x", data={"image_size": 32}, model={"backbone": "resnet18", "weights": "imagenet_v2"})
    context = LabelContext(("a", "b"), "multi-label", np.eye(2), 1, 0)
    assert parts.build(experiment, context).network.output["logits"].shape == (None, 2)


def test_a_file_that_brings_its_weights_is_not_said_to_have_others(tmp_path):
    load_backbone("small", image_size=32).model.save(tmp_path / "own.keras")
    with pytest.raises(UserError, match="brings its own weights; leave out weights='imagenet'"):
        load_backbone(tmp_path / "own.keras", image_size=32, weights="imagenet")


def test_another_hash_leaves_nothing_behind(monkeypatch, caches):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: io.BytesIO(b"something else"))
    with pytest.raises(UserError, match=r"resnet50-0676ba61\.pth came with another hash"):
        imagenet_file("resnet50")
    assert not list((caches / "keras" / "models").iterdir())


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("swin_t", "imagenet", r"swin_t could not be fetched from https.*swin_t-704ceda3\.pth \(Name or service"),
        ("vit_s_16", "imagenet", "vit_s_16 has no ImageNet weights to fetch as 'imagenet'"),
        ("swin_t", "imagenet_v2", "swin_t has no ImageNet weights to fetch as 'imagenet_v2'"),
    ],
)
def test_faults_are_one_line(caches, name, weights, words):
    with pytest.raises(UserError, match=words) as caught:
        load_backbone(name, image_size=32, weights=weights)
    assert "\n" not in str(caught.value)


# ---- satellite images


def thirteen_bands(tmp_path: Path) -> Path:
    state, _ = recorded_state("torchgeo-resnet18")
    path = tmp_path / "resnet18_sentinel2_all_moco-59bfdff9.pth"
    with path.open("wb") as file:
        np.savez(file, **state)
    return path


def test_bands_and_scaling_of_the_file_go_into_the_model(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        backbone = load_backbone("resnet18", image_size=32, bands=13, weights=thirteen_bands(tmp_path))
    assert "B08, B8A, B09" in caplog.text and "data.value_range=[0, 10000]" in caplog.text
    backbone.model.save(tmp_path / "best.keras")
    layer = keras.saving.load_model(tmp_path / "best.keras").get_layer("preprocess")
    assert layer.band_names[:2] == ("B01", "B02") and len(layer.band_names) == 13
    # A reflectance value of 4000, stretched from 0..10000 to 0..255, is 0.4 to the network.
    np.testing.assert_allclose(
        layer(np.full((1, 1, 1, 13), 4000 / 10000 * 255)), np.full((1, 1, 1, 13), 0.4), rtol=1e-6
    )
    # A run that goes on from this one is scaled as it was.
    other = load_backbone("resnet18", image_size=32, bands=13, weights=tmp_path)
    assert other.model.get_layer("preprocess").get_config() == layer.get_config()


def test_red_green_and_blue_are_picked_from_thirteen(tmp_path):
    path = thirteen_bands(tmp_path)
    whole = load_backbone("resnet18", image_size=32, bands=13, weights=path).model
    three = load_backbone("resnet18", image_size=32, weights=path).model
    assert three.get_layer("preprocess").band_names == ("B04", "B03", "B02")
    expected = np.array(whole.get_layer("conv1").kernel)[:, :, [3, 2, 1]] * 13 / 3
    np.testing.assert_allclose(three.get_layer("conv1").kernel, expected, rtol=1e-6)


def test_other_bands_than_the_files_are_refused_unless_meant(tmp_path):
    path = thirteen_bands(tmp_path)
    with pytest.raises(UserError, match=r"learned on 13 bands \(B01, B02.*the images have 4; choose the same"):
        load_backbone("resnet18", image_size=32, bands=4, weights=path)
    backbone = load_backbone("resnet18", image_size=32, bands=4, weights=path, preprocess="unit")
    assert backbone.report.adapted == {"conv1": "from 13 to 4 bands"}


@pytest.mark.parametrize(
    ("name", "bands", "value", "expected"),
    [
        # (file, its bands, a value of the sensor, what TorchGeo's transforms make of it in the last band)
        ("vit_small_patch16_224_sentinel2_all_dino-36bcc127.pth", 13, 2500, 0.25),
        ("B13_vits14_softcon_enc.pth", 13, 2500, (2500 - 1537.4) / 1142.9),
        ("sentinel2_swinb_si_ms-fe22a12c.pth", 9, 4080, 0.5),
        ("landsat_swinb_si-4af978f6.pth", 11, 12160, 0.5),
        ("sentinel2_swint_mi_rgb-424d91f4.pth", 3, 51, 0.2),
        ("aerial_swinb_si-e4169eb1.pth", 3, 51, 0.2),
        ("resnet50_sentinel1_all_moco-906e4356.pth", 2, -20.26, 0.0),
        ("resnet18_landsat_oli_sr_moco-660e82ed.pth", 7, 51, 0.2),
    ],
)
def test_scaling_of_each_sensor(name, bands, value, expected):
    sensor = sensor_of(Path(name))
    assert len(sensor.bands) == bands
    low, high = sensor.values
    pixels = np.full((1, 1, 1, bands), (value - low) / (high - low) * 255, "float32")
    np.testing.assert_allclose(sensor.preprocess(sensor.chosen(bands))(pixels)[0, 0, 0, -1], expected, atol=1e-5)


def test_names_of_others_tell_nothing():
    for name in ("resnet50-0676ba61.pth", "swin_t-704ceda3.pth", "best.keras", "efficientnet_lite2_imagenet.pth"):
        assert sensor_of(Path(name)) is None


def test_band_names_are_one_a_band():
    with pytest.raises(ValueError, match=r"band_names must have one number a band \(3\); got 2"):
        Preprocess("unit", band_names=["red", "green"])


# ---- EfficientNet-Lite2


@pytest.mark.skipif(not DATA, reason="RSML_TEST_DATA is not set")
def test_lite2_classifies_as_its_makers_package_does():
    file = Path(DATA) / "weights" / "efficientnet_lite2_imagenet.pth"
    backbone = load_backbone("efficientnet_lite2", image_size=make_lite2_features.SIDE, weights=file)
    loaded, total = backbone.report.layers
    assert loaded == total and backbone.report.unused == ["_fc"]
    features = np.asarray(backbone.model(make_lite2_features.pixels(), training=False))
    with np.load(Path(make_lite2_features.__file__).parent / "torch" / "efficientnet_lite2.npz") as recorded:
        np.testing.assert_allclose(features.ravel()[::997], recorded["features"], atol=1e-4)
        classes, scores = recorded["classes"], recorded["scores"]
    kernel, bias = next(layer.arrays for layer in read_weights(file) if layer.name == "_fc")
    logits = features.mean((1, 2)) @ kernel + bias
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_array_equal(np.argsort(-shares, 1)[:, :5], classes)
    np.testing.assert_allclose(np.take_along_axis(shares, classes, 1), scores, atol=1e-4)
    assert {403, 895} <= set(classes[0])  # an airplane on the ground: aircraft carrier and warplane among its first
