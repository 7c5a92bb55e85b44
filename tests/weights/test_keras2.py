"""Files of Keras 2.2.5: the same outputs from today's layers, and one line for what cannot be rebuilt."""

import json
import pickle
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from rsml.models import load_backbone, load_model, load_weights
from rsml.utils.errors import UserError
from rsml.weights.ice import ice_pixels
from rsml.weights.keras2 import is_legacy

tf_keras = pytest.importorskip("tf_keras")

from tests.weights import keras2  # noqa: E402

IMAGES = np.random.default_rng(1).uniform(0, 1, (4, 32, 32, 3)).astype("float32")


@pytest.fixture(scope="module")
def ice(tmp_path_factory):
    """An ICE classifier, the file of it, and its scores for IMAGES."""
    model = keras2.with_random_weights(keras2.nasnet_like())
    path = keras2.save(model, tmp_path_factory.mktemp("old") / "NasNet_Mobile_New_Loss3.02-0.9810.h5")
    return model, path, model(IMAGES, training=False).numpy()


def edit(path, copy, config=None, training=None):
    """Copies a file with its model config, or its training config, changed by a function."""
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        for key, change in (("model_config", config), ("training_config", training)):
            if change is not None:
                read = json.loads(file.attrs[key])
                file.attrs[key] = json.dumps(change(read) or read).encode()
    return copy


def entry(config, name):
    return next(layer for layer in config["config"]["layers"] if layer["config"]["name"] == name)


def test_the_test_file_is_laid_out_as_keras_2_2_5_did(ice):
    with h5py.File(ice[1]) as file:
        config = json.loads(file.attrs["model_config"])
        assert file.attrs["keras_version"] in (b"2.2.5", "2.2.5")
        assert json.loads(file.attrs["training_config"])["loss"] == "ICE"
        names = list(file["model_weights"]["separable_conv_1_normal_left1_0"].attrs["weight_names"])
    assert config["class_name"] == "Model"
    assert config["config"]["layers"][0]["config"]["batch_input_shape"] == [None, 32, 32, 3]
    stem = entry(config, "stem_conv1")
    assert "module" not in json.dumps(config) and "groups" not in stem["config"] and "dtype" not in stem["config"]
    assert stem["config"]["kernel_initializer"]["class_name"] == "VarianceScaling"
    assert entry(config, "stem_bn1")["inbound_nodes"] == [[["stem_conv1", 0, 0, {}]]]
    assert [name.split(b"/")[-1] for name in names] == [b"depthwise_kernel:0", b"pointwise_kernel:0"]
    with pytest.raises(Exception, match=r"batch_input_shape|Unrecognized|could not be deserialized|ICE"):
        keras.saving.load_model(ice[1])


def test_an_ice_classifier_gives_the_same_scores(ice):
    _, path, expected = ice
    assert expected.max() < 0.9 and expected.std(axis=0).max() > 1e-3  # softmax hides no difference
    model = load_model(path)
    np.testing.assert_allclose(model(IMAGES, training=False), expected, atol=1e-6)
    assert model.output_shape == (None, 5) and model.input_shape == (None, 32, 32, 3)
    assert not model.compiled
    assert type(model.get_layer("stem_conv1")) is keras.layers.Conv2D


def test_files_of_the_last_tf_keras_too(ice, tmp_path):
    model = ice[0]
    model.save(tmp_path / "late.h5")
    with h5py.File(tmp_path / "late.h5") as file:
        assert '"class_name": "Functional"' in file.attrs["model_config"] and '"module"' in file.attrs["model_config"]
    np.testing.assert_allclose(load_model(tmp_path / "late.h5")(IMAGES), ice[2], atol=1e-6)


def test_how_an_ice_file_wants_its_pixels(ice, tmp_path):
    _, path, _ = ice
    assert is_legacy(path) and ice_pixels(path) == "unit"

    def other_loss(training):
        training["loss"] = "categorical_crossentropy"

    def other_widths(config):
        dense = [layer["config"] for layer in config["config"]["layers"] if layer["class_name"] == "Dense"]
        dense[-2]["units"] = 255

    assert ice_pixels(edit(path, tmp_path / "widths.h5", training=other_loss)) == "unit"
    assert ice_pixels(edit(path, tmp_path / "loss.h5", config=other_widths)) == "unit"
    assert ice_pixels(edit(path, tmp_path / "neither.h5", other_widths, other_loss)) is None
    load_model(path).save(tmp_path / "new.h5")
    assert not is_legacy(tmp_path / "new.h5") and ice_pixels(tmp_path / "new.h5") is None


def backbone(frozen=()):
    image = tf_keras.layers.Input((32, 32, 3), name="picture")
    x = tf_keras.layers.Conv2D(6, 3, strides=2, name="conv_a")(image)
    x = tf_keras.layers.BatchNormalization(name="norm_a")(x)
    x = tf_keras.layers.LeakyReLU(alpha=0.2)(x)
    x = tf_keras.layers.Conv2D(6, 3, padding="same", name="conv_b")(x)
    x = tf_keras.layers.BatchNormalization(name="norm_b")(x)
    model = tf_keras.Model(image, x, name="backbone")
    for name in frozen:
        model.get_layer(name).trainable = False
    return model


def nested(frozen=()):
    image = tf_keras.layers.Input((32, 32, 3))
    return tf_keras.Model(image, keras2.classifier(backbone(frozen)(image), 5))


def in_sequence(frozen=()):
    top = tf_keras.Sequential(
        [tf_keras.layers.InputLayer((15, 15, 6)), tf_keras.layers.Flatten(), tf_keras.layers.Dense(5)], name="top"
    )
    return tf_keras.Sequential([backbone(frozen), top, tf_keras.layers.Activation("softmax")])


def shared(frozen=()):
    image = tf_keras.layers.Input((32, 32, 3))
    inner, conv = backbone(frozen), tf_keras.layers.Conv2D(6, 1, name="shared")
    features = inner(image)
    twice = conv(tf_keras.layers.ReLU()(conv(features)))
    again = inner(tf_keras.layers.ZeroPadding2D(((0, 1), (1, 0)))(tf_keras.layers.Cropping2D(((1, 0), (0, 1)))(image)))
    merged = tf_keras.layers.GlobalAveragePooling2D()(tf_keras.layers.subtract([twice, again]))
    return tf_keras.Model(image, tf_keras.layers.Dense(5, activation="sigmoid")(merged))


@pytest.mark.parametrize("frozen", [(), ("conv_a", "norm_b")], ids=["all train", "some frozen"])
@pytest.mark.parametrize("build", [nested, in_sequence, shared])
def test_models_in_models_and_shared_layers(tmp_path, build, frozen):
    model = keras2.with_random_weights(build(frozen))
    path = keras2.save(model, tmp_path / "old.h5")
    np.testing.assert_allclose(load_model(path)(IMAGES), model(IMAGES), atol=1e-6)


@pytest.mark.parametrize("frozen", [(), ("conv_a", "norm_b")], ids=["all train", "some frozen"])
def test_names_that_tensorflow_made_unique_leave_the_order(tmp_path, frozen):
    model = keras2.with_random_weights(nested(frozen))
    path = keras2.save(model, tmp_path / "old.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/backbone"]
        names = [name.decode() for name in group.attrs["weight_names"]]
        for name in names:
            group.move(name, name.replace("/", "_1/"))
        group.attrs["weight_names"] = [name.replace("/", "_1/").encode() for name in names]
    np.testing.assert_allclose(load_model(path)(IMAGES), model(IMAGES), atol=1e-6)


def test_the_bare_list_of_a_sequential_before_2_2_3(tmp_path):
    model = keras2.with_random_weights(in_sequence())
    path = keras2.save(model, tmp_path / "old.h5")

    def bare(config):
        config["config"] = config["config"]["layers"]
        first = next(layer for layer in config["config"] if layer["class_name"] == "InputLayer")
        config["config"].remove(first)

    np.testing.assert_allclose(load_model(edit(path, tmp_path / "bare.h5", bare))(IMAGES), model(IMAGES), atol=1e-6)


def test_other_spellings_of_options(ice, tmp_path):
    _, path, expected = ice

    def spell(config):
        entry(config, "stem_bn1")["config"]["axis"] = [3]
        entry(config, "adjust_relu_1_0")["config"]["max_value"] = {"type": "ndarray", "value": 6.0}
        entry(config, "stem_conv1")["config"].update(
            dtype="float32", kernel_regularizer={"class_name": "Own", "config": {}}, groups=1
        )
        entry(config, "activation")["config"]["activation"] = {"class_name": "function", "config": "relu"}
        entry(config, "separable_conv_1_normal_left1_0")["config"]["groups"] = 1

    copy = edit(path, tmp_path / "spelled.h5", spell)
    with h5py.File(copy, "r+") as file:
        for group in (file, file["model_weights"]):
            del group.attrs["keras_version"]
        names = list(file["model_weights"].attrs["layer_names"])
        del file["model_weights"].attrs["layer_names"]
        file["model_weights"].attrs["layer_names0"] = names[:9]
        file["model_weights"].attrs["layer_names1"] = names[9:]
    np.testing.assert_allclose(load_model(copy)(IMAGES), expected, atol=1e-6)


def replaced(name, **change):
    def edit_config(config):
        found = entry(config, name)
        found.update({key: value for key, value in change.items() if key == "class_name"})
        found["config"].update({key: value for key, value in change.items() if key != "class_name"})

    return edit_config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced("stem_bn1", class_name="GroupNorm"), "layer 'stem_bn1' is a GroupNorm"),
        (replaced("stem_conv1", strange=3), "'stem_conv1' .* option strange=3"),
        (replaced("stem_conv1", data_format="channels_first"), "channels first"),
        (replaced("activation", activation="my_own"), "'activation' has the activation 'my_own'"),
        (replaced("stem_conv1", filters=9), "'stem_(conv1|bn1)' holds arrays of"),
        (replaced("stem_conv1", filters="many"), "damaged"),
        (lambda config: config["config"]["layers"].pop(5) and None, "graph is broken"),
        (lambda config: {"class_name": "Seq2Seq", "config": {}}, "its model is a Seq2Seq"),
        (lambda config: {"class_name": "Model", "config": []}, "damaged"),
    ],
)
def test_what_cannot_be_rebuilt_is_one_line(ice, tmp_path, change, words):
    path = edit(ice[1], tmp_path / "changed.h5", change)
    with pytest.raises(UserError, match=words) as fault:
        load_model(path)
    assert str(path) in str(fault.value) and "\n" not in str(fault.value)


def test_damaged_files_are_one_line(ice, tmp_path):
    whole = ice[1].read_bytes()
    cases = {"short.h5": (whole[: len(whole) // 2], "damaged"), "text.h5": (b"no model", "no Keras model")}
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words):
            load_model(tmp_path / name)
        with pytest.raises(UserError, match=rf"{name}(: damaged| is no weights file)"):
            load_backbone("small", image_size=32, weights=tmp_path / name)
    path = edit(ice[1], tmp_path / "empty.h5")
    with h5py.File(path, "r+") as file:
        name = next(name for name in file["model_weights"] if name.startswith("dense"))
        del file[f"model_weights/{name}/{name}"]
    with pytest.raises(UserError, match=r"empty\.h5: damaged"):
        load_model(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]
    with pytest.raises(UserError, match="holds weights alone"):
        load_model(path)


def test_an_old_file_starts_a_network(ice):
    _, path, _ = ice
    keras.utils.set_random_seed(3)
    fresh = keras.models.clone_model(load_model(path))
    report = load_weights(fresh, path)
    assert report.layers[0] == report.layers[1] and not report.unused
    np.testing.assert_allclose(fresh(IMAGES), ice[2], atol=1e-6)
    with pytest.raises(UserError, match="Nothing in"):
        load_backbone("small", image_size=64, weights=path)


def test_an_old_file_in_models_starts_a_network(tmp_path):
    model = keras2.with_random_weights(nested(("norm_b",)))
    path = keras2.save(model, tmp_path / "old.h5")
    with h5py.File(path, "r+") as file:
        group = file["model_weights/backbone"]
        names = [name.decode() for name in group.attrs["weight_names"]]
        for name in names:
            group.move(name, f"scope/{name}")
        group.attrs["weight_names"] = [f"scope/{name}".encode() for name in names]
    fresh = keras.models.clone_model(load_model(path))
    assert load_weights(fresh, path).layers == (9, 9)
    np.testing.assert_allclose(fresh(IMAGES), model(IMAGES), atol=1e-6)


def test_a_file_of_which_little_fits_is_refused(tmp_path):
    """Layers that Keras named alike, the first of them of the same shape."""
    image = tf_keras.layers.Input((32, 32, 3))
    x = tf_keras.layers.Conv2D(32, 3, name="conv2d")(image)
    keras2.save(tf_keras.Model(image, tf_keras.layers.Conv2D(9, 3, name="conv2d_1")(x)), tmp_path / "old.h5")
    other = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(32, 3), keras.layers.Conv2D(64, 3)])
    with pytest.raises(UserError, match=r"another architecture than .*: .* 1 of 2 layers loaded"):
        load_backbone(other, image_size=32, preprocess="unit", weights=tmp_path / "old.h5")


def twin(model):
    """Layers of Keras 2 with the names and weights of a model's convolutions and norms, side by side."""
    inputs, outputs, made = [], [], []
    for layer in model.layers:
        if layer.weights:
            config = {"name": layer.name}
            if isinstance(layer, keras.layers.Conv2D):
                config.update(filters=layer.filters, kernel_size=layer.kernel_size, padding="same", use_bias=False)
            inputs.append(tf_keras.layers.Input((4, 4, layer.input.shape[-1])))
            made.append(getattr(tf_keras.layers, type(layer).__name__)(**config))
            outputs.append(made[-1](inputs[-1]))
            made[-1].set_weights(layer.get_weights())
    return tf_keras.Model(inputs, outputs)


def test_pixels_follow_the_weights_of_an_ice_file(tmp_path, caplog):
    small = load_backbone("small", image_size=32).model
    weights = {layer.name: layer.get_weights() for layer in small.layers}
    old = keras2.save(twin(small), tmp_path / "old.h5", "New_loss3")
    with caplog.at_level("INFO"):
        taken = load_backbone("small", image_size=32, weights=old)
    assert "preprocessing 'unit'" in caplog.text
    assert taken.model.get_layer("preprocess").mode == "unit"
    for layer in taken.model.layers:
        for ours, theirs in zip(layer.get_weights(), weights[layer.name], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert (
        load_backbone("small", image_size=32, weights=old, preprocess="tf").model.get_layer("preprocess").mode == "tf"
    )


def test_an_old_file_is_a_backbone(ice):
    old, path, _ = ice
    taken = load_backbone(path, image_size=32)
    pooled = next(layer for layer in old.layers if layer.name.startswith("max_pooling2d"))
    expected = tf_keras.Model(old.input, pooled.output)(IMAGES)
    np.testing.assert_allclose(taken.model(255 * IMAGES), expected, rtol=1e-5, atol=1e-5)


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (Path(self.marker),)


def test_a_keras_file_of_keras_2_is_one_line(ice, tmp_path):
    ice[0].save(tmp_path / "old.keras")
    with pytest.raises(UserError, match=r"is a \.keras file of Keras 2\.21\.0.* save it as \.h5"):
        load_model(tmp_path / "old.keras")


def test_bytecode_in_an_old_file_does_not_run(tmp_path):
    marker = tmp_path / "ran"
    image = tf_keras.layers.Input((32, 32, 3))
    touch = f"open({str(marker)!r}, 'w')"
    function = eval(f"lambda x: ({touch}, x)[1]")
    x = tf_keras.layers.Lambda(function, output_shape=(32, 32, 3))(image)
    model = tf_keras.Model(image, tf_keras.layers.Dense(2)(tf_keras.layers.Flatten()(x)))
    path = keras2.save(model, tmp_path / "old.h5")
    marker.unlink()
    with pytest.raises(UserError, match=r"carries code .*Lambda"):
        load_model(path)
    with pytest.raises(UserError, match=r"carries code .*Lambda"):
        load_backbone(path, image_size=32)
    assert not marker.exists()
    load_model(path, trust=True)(IMAGES)
    assert marker.exists()


def test_a_pickle_in_place_of_the_config_does_not_run(ice, tmp_path):
    marker = tmp_path / "ran"
    path = edit(ice[1], tmp_path / "pickled.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = np.void(pickle.dumps(Bomb(str(marker))))
    with pytest.raises(UserError, match="damaged"):
        load_model(path)
    assert not marker.exists()
