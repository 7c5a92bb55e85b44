"""Classifiers of other hands in rsml's own form, and files that would run code."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from rsml.layers import Preprocess, ScenePredictions
from rsml.models import load_backbone, load_model
from rsml.prediction.scene_model import SceneModel
from rsml.utils.errors import UserError
from rsml.weights.foreign import as_scene_classifier
from rsml.weights.screen import screen

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
NAMES = ("a", "b", "c")


def features(image):
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    return layers.GlobalAveragePooling2D(name="pool")(x)


def functional(end, shape=(16, 16, 3)):
    image = keras.Input(shape)
    return keras.Model(image, end(features(image)))


def softmax_in_the_middle(x):
    """As in Keras's MobileNet of old: the activation stands before the shape is made flat."""
    x = layers.Conv2D(3, 1)(layers.Reshape((1, 1, 6))(x))
    return layers.Reshape((3,))(layers.Activation("softmax")(x))


ENDS = {
    "dense softmax": (layers.Dense(3, activation="softmax"), "single-label"),
    "dense sigmoid": (layers.Dense(3, activation="sigmoid"), "multi-label"),
    "activation": (lambda x: layers.Activation("softmax")(layers.Dense(3)(x)), "single-label"),
    "softmax layer": (lambda x: layers.Softmax()(layers.Dense(3)(x)), "single-label"),
    "bare operation": (lambda x: keras.ops.sigmoid(layers.Dense(3)(x) * 2), "multi-label"),
    "moved": (softmax_in_the_middle, "single-label"),
}


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("end", ENDS)
def test_scores_stay_what_they_were(tmp_path, end, suffix):
    build, task = ENDS[end]
    if (end, suffix) == ("bare operation", "h5"):
        pytest.skip("Keras does not read bare operations from .h5")
    keras.utils.set_random_seed(1)
    theirs = functional(build)
    theirs.save(tmp_path / f"m.{suffix}")
    ours = SceneModel.load(tmp_path / f"m.{suffix}", labels=NAMES, preprocess="tf")
    expected = theirs.predict(PIXELS / 127.5 - 1, verbose=0)
    np.testing.assert_allclose(ours.model.predict(PIXELS, verbose=0), expected, atol=1e-6)
    assert (ours.labels, ours.task) == (NAMES, task)
    assert isinstance(ours.model.layers[-1], ScenePredictions)
    assert expected.std(axis=0).max() > 1e-4
    # What retrieval cuts at is in this graph.
    keras.Model(ours.model.input, ours.model.get_layer("pool").output)


def test_logits_need_the_task(tmp_path):
    theirs = functional(layers.Dense(3))
    theirs.save(tmp_path / "m.keras")
    with pytest.raises(UserError, match="taken for logits; say with --task"):
        SceneModel.load(tmp_path / "m.keras", labels=NAMES, preprocess="unit")
    ours = SceneModel.load(tmp_path / "m.keras", labels=NAMES, preprocess="unit", task="multi-label")
    expected = 1 / (1 + np.exp(-theirs.predict(PIXELS / 255, verbose=0)))
    np.testing.assert_allclose(ours.model.predict(PIXELS, verbose=0), expected, atol=1e-6)


@pytest.mark.parametrize(
    "scaler",
    [layers.Rescaling(1 / 255), layers.Normalization(mean=[100, 110, 120], variance=[50, 60, 70]), Preprocess("lite")],
)
def test_a_model_that_scales_takes_raw_pixels(scaler):
    image = keras.Input((16, 16, 3))
    theirs = keras.Model(image, layers.Dense(3, activation="softmax")(features(scaler(image))))
    ours = as_scene_classifier(theirs, "theirs", labels=NAMES)
    expected = theirs.predict(PIXELS.astype("float32"), verbose=0)
    np.testing.assert_allclose(ours.predict(PIXELS, verbose=0), expected, atol=1e-6)
    assert len([layer for layer in ours.layers if isinstance(layer, (Preprocess, type(scaler)))]) == 1


def test_nested_models_are_dissolved_and_the_old_model_is_left_alone():
    image = keras.Input((16, 16, 3), name="outer")
    inner_image = keras.Input((16, 16, 3))
    inner = keras.Model(inner_image, features(inner_image), name="inner")
    theirs = keras.Sequential([image, inner, layers.Dense(3, activation="softmax", name="top")])
    before = theirs.predict(PIXELS / 255, verbose=0)
    ours = as_scene_classifier(theirs, "theirs", labels=NAMES, preprocess="unit")
    np.testing.assert_allclose(ours.predict(PIXELS, verbose=0), before, atol=1e-6)
    assert "conv" in [layer.name for layer in ours.layers]
    ours.set_weights([0 * weight for weight in ours.get_weights()])
    np.testing.assert_array_equal(theirs.predict(PIXELS / 255, verbose=0), before)
    assert theirs.layers[-1].activation.__name__ == "softmax"


def test_any_size_needs_one_and_other_bands_are_read():
    theirs = functional(layers.Dense(3, activation="softmax"), (None, None, 4))
    with pytest.raises(UserError, match="any size; say which it learned with --image-size"):
        as_scene_classifier(theirs, "theirs", labels=NAMES, preprocess="unit")
    ours = SceneModel.of(
        as_scene_classifier(theirs, "theirs", labels=NAMES, preprocess="unit", image_size=(20, 24)), "theirs"
    )
    assert ours.reading["image_size"] == (20, 24) and ours.reading["bands"] == (1, 2, 3, 4)


SOFTMAX = layers.Dense(3, activation="softmax")


@pytest.mark.parametrize(
    ("build", "options", "words"),
    [
        (lambda: functional(layers.Dense(3, activation="softmax")), {}, "not in the file: give preprocess="),
        (lambda: functional(SOFTMAX), {"preprocess": "tff"}, r"no preprocessing 'tff' \(did you mean 'tf'\?\)"),
        (lambda: functional(SOFTMAX), {"labels": None}, "names no labels; it has 3 classes"),
        (lambda: functional(SOFTMAX), {"labels": ("a", "b")}, "has 3 classes, but there are 2 label names"),
        (lambda: functional(SOFTMAX), {"task": "multi-label", "preprocess": "tf"}, "softmax, so it is single-label"),
        (lambda: functional(SOFTMAX), {"image_size": (8, 8)}, "takes images of 16 x 16 only"),
        (lambda: keras.Sequential([layers.Dense(3)]), {}, "not a functional Keras model"),
        (lambda: keras.Sequential([keras.Input((5,)), layers.Dense(3)]), {}, r"takes \(None, 5\); a scene classifier"),
        (lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 1)]), {}, "a classifier gives one output"),
    ],
)  # fmt: skip
def test_faults_are_one_line(build, options, words):
    with pytest.raises(UserError, match=words) as fault:
        as_scene_classifier(build(), "theirs", **{"labels": NAMES, **options})
    assert "theirs" in str(fault.value) or "preprocessing" in str(fault.value)
    assert "\n" not in str(fault.value)


# ---- files that would run code --------------------------------------------------------------------------------------


def with_code(marker):
    code = eval(f"lambda x: (open({str(marker)!r}, 'w'), x)[1]")
    return functional(lambda x: layers.Dense(3, activation="softmax")(layers.Lambda(code, output_shape=(6,))(x)))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_lambda_does_not_run_unless_trusted(tmp_path, suffix):
    marker, path = tmp_path / "ran", tmp_path / f"m.{suffix}"
    with_code(marker).save(path)
    marker.unlink(missing_ok=True)
    for load in (load_model, lambda file: SceneModel.load(file, labels=NAMES, preprocess="unit")):
        with pytest.raises(UserError, match=r"carries code .*\(Lambda"):
            load(path)
    with pytest.raises(UserError, match="carries code"):
        load_backbone(path, image_size=16, preprocess="unit")
    assert not marker.exists()
    ours = SceneModel.load(path, trust=True, labels=NAMES, preprocess="unit")
    ours.model.predict(PIXELS, verbose=0)
    assert marker.exists()


def forged(tmp_path, change):
    """A `.keras` file whose second layer's entry is changed by hand."""
    functional(layers.Dense(3, activation="softmax")).save(tmp_path / "good.keras")
    path = tmp_path / "forged.keras"
    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config["config"]["layers"][1])
                content = json.dumps(config).encode()
            bad.writestr(name, content)
    return path


def test_the_module_of_an_entry_is_not_imported(tmp_path, monkeypatch):
    marker = tmp_path / "ran"
    (tmp_path / "evil_module.py").write_text(
        f"open({str(marker)!r}, 'w')\nimport keras\nclass Evil(keras.layers.Layer): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = forged(tmp_path, lambda entry: entry.update(module="evil_module", class_name="Evil"))
    with pytest.raises(UserError, match="needs 'Evil', which is not known here"):
        load_model(path)
    path = forged(tmp_path, lambda entry: entry["config"].update(
        activation={"module": "evil_module", "class_name": "function", "config": "Evil", "registered_name": "function"}
    ))  # fmt: skip
    with pytest.raises(UserError, match="not known here"):
        load_model(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"module": "keras.utils", "class_name": "get_file", "config": {"origin": "http://example.org/x"}},
        {"module": "keras.config", "class_name": "enable_unsafe_deserialization", "config": {}},
        {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "function"},
        {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "gASV"}},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp"}},
        {"module": "keras.src.layers.core.lambda_layer", "class_name": "Lambda", "config": {}},
        {"module": "builtins", "class_name": "Own>Lambda", "config": {}},
        {"module": "keras.layers", "class_name": "Dense", "registered_name": "x>Lambda", "config": {}},
        {"class_name": "__lambda__", "config": {"code": "4wAA"}},
        {"module": "keras.callbacks", "class_name": "LambdaCallback", "config": {}},
        {"module": "keras.src.saving.serialization_lib", "class_name": "enable_unsafe_deserialization", "config": {}},
    ],
)
def test_what_an_entry_may_not_be(tmp_path, entry):
    assert screen({"layers": [{"config": {"deep": [entry]}}]})[0]
    path = forged(tmp_path, lambda layer: layer["config"].update(kernel_initializer=entry))
    with pytest.raises(UserError, match="carries code that would run"):
        load_model(path)


def test_ordinary_models_carry_nothing(tmp_path):
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation=keras.activations.gelu, kernel_regularizer="l2", dtype="mixed_float16")(image)
    x = layers.LeakyReLU()(layers.LayerNormalization(beta_constraint=keras.constraints.NonNeg())(x)) / 2
    conv = layers.Conv2D(4, 1, kernel_initializer=keras.initializers.HeNormal())
    x = keras.Sequential([layers.RandomFlip(), conv])(x)
    x = layers.TimeDistributed(layers.Dense(3, activation=keras.ops.tanh))(keras.ops.mean(x, axis=1))
    model = keras.Model(image, ScenePredictions(NAMES)(layers.GlobalAveragePooling1D()(x)))
    model.compile("adam", loss=lambda true, predicted: keras.ops.mean(true - predicted))
    with pytest.warns(UserWarning, match="includes a `lambda`"):
        model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert screen(json.loads(archive.read("config.json"))) == ([], [])
    np.testing.assert_allclose(load_model(tmp_path / "m.keras")(PIXELS), model(PIXELS), atol=1e-6)


def test_a_file_of_two_formats_is_not_opened(tmp_path):
    """Keras would read the HDF5 in it, and a look at the zip shows a harmless model."""
    marker = tmp_path / "ran"
    functional(layers.Dense(3)).save(tmp_path / "good.keras")
    with_code(marker).save(tmp_path / "bad.h5")
    marker.unlink(missing_ok=True)
    path = tmp_path / "both.h5"
    content = io.BytesIO((tmp_path / "bad.h5").read_bytes())
    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(content, "a") as added:
        for name in good.namelist():
            added.writestr(name, good.read(name))
    path.write_bytes(content.getvalue())
    assert h5py.is_hdf5(path) and zipfile.is_zipfile(path)
    with pytest.raises(UserError, match="a zip file and an HDF5 file at once"):
        load_model(path)
    assert not marker.exists()
