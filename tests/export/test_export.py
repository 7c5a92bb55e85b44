import importlib.util
import json
import zipfile

import keras
import numpy as np
import pytest
from keras import ops

from rsml.cli.export import CHOICES
from rsml.cli.main import main as rsml
from rsml.config import Data, Experiment, Training
from rsml.export import formats
from rsml.export.exporting import TOLERANCE, Check, checks_table, export, gather_images
from rsml.export.portable import PortableSIGNA, kept_in_float, portable
from rsml.layers import (
    SIGNA,
    AdaptiveAveragePool,
    Companion,
    LabelGraphClassifier,
    LayerScale,
    MapToTokens,
    MergeNeighbors,
    ScenePredictions,
    SelfAttention,
    SqueezeExcite,
    Tokens,
    TokensToMap,
    WindowAttention,
)
from rsml.prediction.scene_model import SceneModel
from rsml.training.loop import train

NAMES = ["sea", "sand", "wood"]
GRAPH = np.array([[0, 0.6, 0], [0.5, 0, 0.7], [0.2, 0.9, 0]])
WORDS = np.random.default_rng(0).normal(size=(3, 5))
IMAGES = np.random.default_rng(1).integers(0, 256, (10, 16, 16, 3)).astype("float32")


def skip_without(package):
    """Without importing it here: tf2onnx sets the level of TensorFlow's notes for the whole process."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")


def network(*, attention=None, head=None, task="multi-label", embedding=False) -> keras.Model:
    """A small classifier with weights that make its outputs differ from image to image."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Rescaling(1 / 64, -2)(image)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = attention(x) if attention else x
    x = keras.layers.Conv2D(12, 3, activation="relu")(x)
    features = keras.layers.GlobalAveragePooling2D()(x)
    logits = head(features) if head else keras.layers.Dense(3)(features)
    if embedding:
        logits = Companion()(
            [logits, keras.layers.UnitNormalization(name="embedding")(keras.layers.Dense(4)(features))]
        )
    model = keras.Model(image, ScenePredictions(NAMES, task)(keras.layers.Rescaling(8.0, dtype="float32")(logits)))
    for weight in model.trainable_weights:
        weight.assign(weight + keras.random.normal(weight.shape, stddev=0.1, seed=1))
    return model


def shared_signa(**options) -> SIGNA:
    return SIGNA(GRAPH, WORDS, heads=2, name="signa", **options)


PARTS = {
    "squeeze-excite": lambda: {"attention": SqueezeExcite(4)},
    "signa": lambda: {"attention": shared_signa()},
    "signa interpolated": lambda: {"attention": shared_signa(evaluation="interpolated", residual=False)},
    "signa full": lambda: {"attention": shared_signa(expansion="full", gnn="gcn", logit_scale=1.0)},
    "ml-gcn": lambda: {"head": LabelGraphClassifier(GRAPH, WORDS, hidden=6)},
    "grn": lambda: {"embedding": True, "task": "single-label"},
}


@pytest.mark.parametrize("name", PARTS)
def test_the_portable_model_gives_the_same_outputs(name):
    model = network(**PARTS[name]())
    expected = model.predict(IMAGES, verbose=0)
    assert expected.std(axis=0).min() > 1e-3
    np.testing.assert_allclose(portable(model).predict(IMAGES, verbose=0), expected, atol=2e-6)


def test_label_graphs_become_constants_and_the_given_model_stays():
    model = network(attention=shared_signa(), head=LabelGraphClassifier(GRAPH, WORDS, hidden=6))
    before = [type(layer) for layer in model.layers]
    clone = portable(model)
    assert [type(layer) for layer in model.layers] == before
    assert not any(isinstance(layer, SIGNA | LabelGraphClassifier) for layer in clone.layers)
    assert kept_in_float(clone) == ["signa"]
    assert isinstance(clone.get_layer("signa"), PortableSIGNA)
    plain = network()
    assert portable(plain) is plain


def test_half_precision_becomes_float32_over_the_same_weights():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = network(attention=shared_signa())
    finally:
        keras.config.set_dtype_policy("float32")
    clone = portable(model)
    assert {layer.compute_dtype for layer in clone.layers} == {"float32"}
    difference = np.abs(clone.predict(IMAGES, verbose=0) - model.predict(IMAGES, verbose=0)).max()
    assert 0 < difference < 0.02


def exported(tmp_path, model, names, batch=None):
    file = tmp_path / "model.keras"
    model.save(file)
    scene_model = SceneModel.of(model)
    return export(scene_model, file, tmp_path / "out", names, IMAGES[:7], IMAGES, batch)


def test_every_format_of_a_multi_label_model_with_signa(tmp_path):
    skip_without("tf2onnx")
    model = network(attention=shared_signa())
    checks, faults = exported(tmp_path, model, list(formats.FORMATS))
    assert not faults
    assert [check.format for check in checks] == ["keras", *formats.FORMATS]
    expected = model.predict(IMAGES, verbose=0)
    for check in checks[1:]:
        kept = formats.FORMATS[check.format]
        run = kept.open(tmp_path / "out" / kept.file)
        # Batches of several sizes, one after another, from the file that was kept.
        given = np.concatenate([run(IMAGES[:1]), run(IMAGES[1:7]), run(IMAGES[7:])])
        largest = np.abs(given[:7] - expected[:7]).max()
        assert largest == pytest.approx(check.largest, abs=1e-5)
        np.testing.assert_allclose(given, expected, atol=2e-5 if kept.exact else 0.12, err_msg=check.format)
        assert check.agreement >= (1 if kept.exact else 0.9)
        assert check.milliseconds > 0
    sizes = {check.format: check.bytes for check in checks}
    assert sizes["savedmodel"] == sum(
        part.stat().st_size for part in (tmp_path / "out" / "saved_model").rglob("*") if part.is_file()
    )
    printed = checks_table(checks, "multi-label")
    assert printed.count("\n") == 8 and "tflite-int8" in printed and "100.00 %" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "labels.txt", "model-float16.tflite", "model-int8.tflite", "model.json", "model.onnx", "model.tflite",
        "saved_model",
    ]  # fmt: skip


def attentive(x):
    """What Swin and ViT are made of, behind a map of 7 x 7."""
    patches = keras.layers.Conv2D(16, 1)(x)
    tokens = Tokens(registers=1, grid=(3, 3))(patches)
    tokens = SelfAttention(2, rotary=True)([tokens, patches])
    tokens = MapToTokens()([tokens, WindowAttention(2, window=3, shift=1)(TokensToMap()([tokens, patches]))])
    x = WindowAttention(2, window=4, shift=2, cosine=True)(TokensToMap()([tokens, patches]))
    x = keras.layers.Activation("gelu")(LayerScale(0.5)(x))
    return AdaptiveAveragePool(5)(MergeNeighbors()(x))


@pytest.mark.slow
def test_attention_is_exported(tmp_path):
    skip_without("tf2onnx")
    _, faults = exported(tmp_path, network(attention=attentive), ["tflite", "onnx"])
    assert not faults  # each file was run, and its outputs were compared with Keras's


def test_int8_takes_bytes_at_scale_one_and_keeps_convolutions_in_integers(tmp_path):
    exported(tmp_path, network(attention=shared_signa()), ["tflite-int8"])
    interpreter = formats._interpreter((tmp_path / "out" / "model-int8.tflite").read_bytes())
    interpreter.allocate_tensors()
    (given,), (returned,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == np.uint8 and given["quantization"] == (1.0, 0)
    assert returned["dtype"] == np.float32
    kernels = [tensor for tensor in interpreter.get_tensor_details() if tuple(tensor["shape"]) == (8, 3, 3, 3)]
    assert kernels and {tensor["dtype"] for tensor in kernels} == {np.int8}


def test_what_the_numbers_mean_travels_along(tmp_path):
    onnx = pytest.importorskip("onnx")
    skip_without("tf2onnx")
    model = network(task="single-label", embedding=True)
    exported(tmp_path, model, ["savedmodel", "tflite", "onnx"])
    out = tmp_path / "out"
    assert (out / "labels.txt").read_text().split() == NAMES
    about = json.loads((out / "model.json").read_text())
    assert about["task"] == "single-label" and about["input"]["shape"] == [None, 16, 16, 3]
    assert set(about["formats"]) == {"savedmodel", "tflite", "onnx"}
    props = {entry.key: entry.value for entry in onnx.load(out / "model.onnx").metadata_props}
    assert json.loads(props["labels"]) == NAMES and props["task"] == "single-label"
    assert json.loads(props["thresholds"]) == [0.5] * 3
    with zipfile.ZipFile(out / "model.tflite") as archive:
        assert archive.read("labels.txt").decode().split() == NAMES
    assert (out / "saved_model" / "assets.extra" / "labels.txt").read_text().split() == NAMES
    # Plain Keras and plain onnxruntime users need the names of input and output.
    loaded = keras.layers.TFSMLayer(out / "saved_model", call_endpoint="serving_default")
    given = ops.convert_to_numpy(loaded(IMAGES)["probabilities"])
    np.testing.assert_allclose(given, model.predict(IMAGES, verbose=0), atol=1e-5)


def test_a_fixed_batch_is_fixed(tmp_path):
    checks, faults = exported(tmp_path, network(), ["savedmodel", "tflite"], batch=4)
    assert not faults and max(check.largest for check in checks) < TOLERANCE
    interpreter = formats._interpreter((tmp_path / "out" / "model.tflite").read_bytes())
    assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [4, 16, 16, 3]


def test_one_format_that_fails_costs_no_other_and_keeps_the_old_file(tmp_path, monkeypatch):
    broken = formats.Format(
        "model.tflite", formats._write_tflite, lambda path: lambda images: np.ones((len(images), 3))
    )
    monkeypatch.setitem(formats.FORMATS, "tflite", broken)

    def explode(source, path):
        path.write_bytes(b"half")
        raise RuntimeError("loc(x): error: 'tf.Sorcery' op is unknown\nmore")

    monkeypatch.setitem(formats.FORMATS, "tflite-float16", formats.Format("model-float16.tflite", explode, None))
    missing = formats.Format("model.onnx", None, None, needs=("no_such_package",))
    monkeypatch.setitem(formats.FORMATS, "onnx", missing)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.tflite").write_bytes(b"old")
    names = ["tflite", "tflite-float16", "onnx", "savedmodel"]
    checks, faults = exported(tmp_path, network(), names)
    assert [check.format for check in checks] == ["keras", "savedmodel"]
    assert "differ from those of Keras by up to" in faults["tflite"]
    assert faults["tflite-float16"] == "not converted: 'tf.Sorcery' op is unknown"
    assert faults["onnx"] == "the package no_such_package is not installed; get it with: pip install no_such_package"
    assert (tmp_path / "out" / "model.tflite").read_bytes() == b"old"
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["labels.txt", "model.json", "model.tflite", "saved_model"]


def test_a_second_export_adds_to_what_is_there(tmp_path):
    model = network()
    exported(tmp_path, model, ["savedmodel"])
    exported(tmp_path, model, ["savedmodel"])
    exported(tmp_path, model, ["tflite"])
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert set(about["formats"]) == {"savedmodel", "tflite"}
    assert not list((tmp_path / "out").glob(".*"))


@pytest.fixture(scope="module")
def run(multilabel_csv, tmp_path_factory):
    experiment = Experiment(
        name="wet",
        data=Data(source=str(multilabel_csv), task="multi-label", image_size=32),
        training=Training(epochs=1, batch_size=8),
        evaluation={"figures": False, "page": False, "resamples": 0},
    )
    return train(experiment, root=tmp_path_factory.mktemp("checkpoint"))


def test_a_run_is_checked_on_its_test_part_and_calibrated_on_its_training_part(run):
    scene_model = SceneModel.load(run.files.best)
    samples = run.read_samples()
    checked, calibrating, said = gather_images(scene_model, run, 4, None, 100)
    assert "4 images of the test part" in said and "train part" in said
    assert len(checked) == 4 and len(calibrating) == len(samples.part("train"))
    from rsml.data.images import decode

    np.testing.assert_array_equal(checked[0], decode(samples.part("test").files[0]))


def test_the_command_prints_the_table_and_the_exit_code_shows_a_failure(run, capsys, monkeypatch):
    assert rsml(["export", str(run.folder), "--formats", "tflite", "--images", "5"]) == 0
    said = capsys.readouterr().out
    assert "largest diff." in said and "model.tflite" in said and "checked on 5 images" in said
    assert (run.folder / "export" / "model.tflite").is_file()
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "onnx" in name else there(name))
    assert rsml(["export", str(run.folder), "--formats", "onnx", "tflite", "--images", "5"]) == 4
    error = capsys.readouterr().err
    lacking = "the package tf2onnx is not installed; get it with: pip install 'rsml[export]'"
    assert error == f"error: onnx: {lacking}\n"
    assert rsml(["export", str(run.folder), "--formats", "onnx"]) == 2
    assert capsys.readouterr().err == f"error: {lacking}\n"


def test_a_checkpoint_file_with_images_of_ones_own(run, scene_folder, tmp_path, capsys):
    images = str(scene_folder / "water")
    assert rsml(["export", str(run.files.best), "--formats", "tflite", "--images", images, "--out", str(tmp_path)]) == 0
    assert "checked on 6 of the images given" in capsys.readouterr().out


def test_a_classifier_made_elsewhere_is_converted_first(scene_folder, tmp_path, capsys):
    image = keras.Input((16, 16, 3))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    keras.Model(image, keras.layers.Dense(3, activation="softmax")(features)).save(tmp_path / "theirs.keras")
    call = [str(tmp_path / "theirs.keras"), "--formats", "tflite", "--images", str(scene_folder / "sand")]
    assert rsml(["export", *call]) == 2
    assert "rsml convert" in capsys.readouterr().err
    converted = str(tmp_path / "ours.keras")
    assert rsml(["convert", call[0], converted, "--class-names", "sea,sand,wood"]) == 0
    assert rsml(["export", converted, *call[1:]]) == 0
    assert json.loads((tmp_path / "export" / "model.json").read_text())["task"] == "single-label"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{best}"], "give some with --images"),
        (["{run}", "--root", "/nowhere/at/all"], "--root, or give others with --images"),
        (["{run}", "--images", "0"], "--images: expected 1 image or more"),
        (["{run}", "--fixed-batch", "0"], "--fixed-batch: '0': expected"),
        (["{run}", "--images", "/no/such.png"], "no such image"),
    ],
)
def test_bad_calls_are_one_line(run, tmp_path, capsys, monkeypatch, arguments, said):
    if "/nowhere" in " ".join(arguments):
        samples = run.read_samples()
        samples = type(samples)(
            paths=np.array([f"{row}.png" for row in range(len(samples))]), labels=samples.labels,
            label_names=samples.label_names, task=samples.task, root=tmp_path, splits=samples.splits,
        )  # fmt: skip
        monkeypatch.setattr(type(run), "read_samples", lambda self, root=None: samples)
    filled = [argument.format(best=run.files.best, run=run.folder) for argument in arguments]
    assert rsml(["export", *filled, "--formats", "tflite"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_command_offers_every_format():
    assert tuple(formats.FORMATS) == CHOICES


def test_keras_itself_has_no_differences_in_the_table():
    row = checks_table([Check("keras", "best.keras", 2_500_000, 0.0, 0.0, 1.0, 3.25)], "single-label").splitlines()[-1]
    assert row.split() == ["keras", "best.keras", "2.50", "3.2"]
