"""Weights read from every kind of file, paired with layers, and counted."""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from rsml.models import adapt_bands, insert_after, load_weights
from rsml.models.resnet import resnet
from rsml.models.small import small
from rsml.utils.errors import UserError
from tests.models.test_insert import Gate

IMAGES = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")


def network(prefix="", filters=8, bands=3, classes=None, seed=0):
    """A small network with every kind of variable; batch statistics are not the initial ones."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((32, 32, bands))
    x = layers.Conv2D(filters, 3, name=f"{prefix}first")(image)
    x = layers.BatchNormalization(name=f"{prefix}norm")(x)
    x = layers.DepthwiseConv2D(3, strides=2, activation="relu", name=f"{prefix}depth")(x)
    x = layers.Conv2D(filters, 1, name=f"{prefix}last")(x)
    if classes:
        x = layers.Dense(classes, name="predictions")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    model.set_weights([np.random.default_rng(seed).normal(1, 0.3, w.shape) ** 2 for w in model.get_weights()])
    return model


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_a_saved_model_loads_into_another(tmp_path, name):
    source, target = network(seed=1), network(seed=2)
    (source.save_weights if name.endswith(".weights.h5") else source.save)(tmp_path / name)
    report = load_weights(target, tmp_path / name)
    np.testing.assert_array_equal(target(IMAGES), source(IMAGES))
    assert report.layers == (4, 4)
    assert report.rule == "name"
    assert report.parameters == (source.count_params(), source.count_params())
    assert report.matched == {key: key for key in ("first", "norm", "depth", "last")}
    assert not report.skipped and not report.unused and not report.shape_mismatch


def test_a_run_folder_means_its_best_model(tmp_path):
    network(seed=1).save(tmp_path / "last.keras")
    best = network(seed=3)
    best.save(tmp_path / "best.keras")
    target = network()
    load_weights(target, tmp_path)
    np.testing.assert_array_equal(target(IMAGES), best(IMAGES))


def test_counts_and_text_when_only_a_part_fits(tmp_path):
    source, target = network(classes=5), network(classes=3, seed=2)
    target = insert_after(target, "depth", Gate(name="gate"))
    source.save(tmp_path / "model.keras")
    kept = target.get_layer("predictions").get_weights()
    report = load_weights(target, tmp_path / "model.keras")
    assert report.layers == (4, 6)
    assert report.skipped == ["gate"]
    assert report.shape_mismatch == {"predictions": ([(8, 3), (3,)], [(8, 5), (5,)])}
    body = 3 * 3 * 3 * 8 + 8 + 4 * 8 + 3 * 3 * 8 + 8 + 8 * 8 + 8
    gate = 8 * 4 + 4 + 4 * 8 + 8
    assert report.parameters == (body, body + gate + 8 * 3 + 3)
    np.testing.assert_array_equal(target.get_layer("predictions").kernel, kept[0])
    assert f"4 of 6 layers loaded by name, {body} of {body + gate + 27} parameters" in report.text()
    assert "other shapes: predictions; not in the source: gate" in report.text()
    assert "\n" not in report.text() and len(report.table().splitlines()) == 6


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.weights.h5"])
def test_layers_that_hold_layers_are_loaded(tmp_path, name):
    source = insert_after(network(seed=1), "depth", Gate(name="gate"))
    target = insert_after(network(seed=2), "depth", Gate(name="gate"))
    (source.save_weights if name.endswith(".weights.h5") else source.save)(tmp_path / name)
    report = load_weights(target, tmp_path / name)
    np.testing.assert_array_equal(target(IMAGES), source(IMAGES))
    assert report.layers == (5, 5)


def test_from_a_model_in_memory_and_a_nested_one():
    source = network(seed=1)
    image = keras.Input((32, 32, 3))
    outer = keras.Model(image, layers.Dense(2, name="head")(source(image)))
    target = network(seed=2)
    report = load_weights(target, outer)
    np.testing.assert_array_equal(target(IMAGES), source(IMAGES))
    assert report.unused == ["head"]


def test_names_that_keras_made_up_are_paired_by_rank():
    def unnamed(seed):
        image = keras.Input((32, 32, 3))
        x = layers.Conv2D(4, 3)(image)
        y = layers.Conv2D(4, 3)(image)
        model = keras.Model(image, layers.Subtract()([x, layers.BatchNormalization()(y)]))
        model.set_weights([np.random.default_rng(seed).uniform(0.5, 1, w.shape) for w in model.get_weights()])
        return model

    source, target = unnamed(1), unnamed(2)
    assert not {x.name for x in source.layers if x.weights} & {x.name for x in target.layers if x.weights}
    assert load_weights(target, source).layers == (3, 3)
    np.testing.assert_array_equal(target(IMAGES), source(IMAGES))


def test_other_names_are_paired_by_order(tmp_path):
    source, target = network("a_", seed=1, classes=7), network("b_", seed=2)
    source.save(tmp_path / "model.keras")
    report = load_weights(target, tmp_path / "model.keras")
    assert report.rule == "order"
    assert report.matched["b_depth"] == "a_depth"
    assert report.unused == ["predictions"]
    np.testing.assert_array_equal(target(IMAGES), keras.Model(source.input, source.get_layer("a_last").output)(IMAGES))


def test_another_architecture_is_an_error(tmp_path):
    network("a_", filters=6).save(tmp_path / "model.keras")
    with pytest.raises(
        UserError, match=r"Nothing in .*model\.keras fits .* of 4 layers with weights, 0 have a namesake"
    ):
        load_weights(network("b_"), tmp_path / "model.keras")


def test_an_old_weights_file_without_a_model(tmp_path):
    """The layout of Keras 2: groups in order, names of weights as attributes, a model inside a model as one group."""
    source = network(seed=1)
    with h5py.File(tmp_path / "old.h5", "w") as file:
        base = file.create_group("base_model")
        weights = []
        for layer in source.layers:
            for variable in layer.weights:
                key = f"{layer.name}/{variable.name}:0"
                base[key] = np.array(variable)
                weights.append(key.encode())
        base.attrs["weight_names"] = weights
        file.create_group("dropout_1").attrs["weight_names"] = []
        file.attrs["layer_names"] = [b"base_model", b"dropout_1"]
    target = network(seed=2)
    assert load_weights(target, tmp_path / "old.h5").layers == (4, 4)
    np.testing.assert_array_equal(target(IMAGES), source(IMAGES))


# ---- bands


def test_first_convolution_is_adapted_by_the_stated_rule(tmp_path):
    source, target = network(seed=1), network(seed=2, bands=5)
    source.save(tmp_path / "model.keras")
    report = load_weights(target, tmp_path / "model.keras")
    kernel = np.array(source.get_layer("first").kernel)
    average = kernel.mean(2)
    expected = np.stack([kernel[:, :, 0], kernel[:, :, 1], kernel[:, :, 2], average, average], 2) * 3 / 5
    np.testing.assert_allclose(target.get_layer("first").kernel, expected, rtol=1e-6)
    assert report.layers == (4, 4)
    assert report.adapted == {"first": "from 3 to 5 bands"}
    assert "first adapted from 3 to 5 bands" in report.text()


@pytest.mark.parametrize("bands", [1, 2, 4, 13])
def test_grey_answers_as_grey_whatever_the_bands(bands):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 6)).astype("float32")
    np.testing.assert_allclose(adapt_bands(kernel, bands).sum(2), kernel.sum(2), rtol=1e-4, atol=1e-5)


def test_fewer_bands_of_many_keep_the_first():
    kernel = np.random.default_rng(0).normal(size=(1, 1, 4, 2)).astype("float32")
    np.testing.assert_allclose(adapt_bands(kernel, 3), kernel[:, :, :3] * 4 / 3, rtol=1e-6)


def test_only_the_first_convolution_may_be_adapted():
    source, target = network(filters=8, seed=1), network(filters=4, seed=2)
    with pytest.raises(UserError, match="4 have a namesake of another shape"):
        load_weights(target, source)


# ---- PyTorch's files, written by hand in its layouts


class _Tensor:
    def __init__(self, array, key):
        self.array, self.key = np.ascontiguousarray(array), str(key)


class _Global:
    """Pickles as the name `module.name`, which need not exist here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class _Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class _TorchPickler(pickle._Pickler):
    """Writes state dictionaries as `torch.save` does."""

    legacy = False

    def persistent_id(self, item):
        if not isinstance(item, tuple) or len(item) != 2 or item[0] != "storage":
            return None
        tensor = item[1]
        kind = {"f": "FloatStorage", "i": "LongStorage"}[tensor.array.dtype.kind]
        identity = ("storage", _Global("torch", kind), tensor.key, "cpu", tensor.array.size)
        return (*identity, None) if self.legacy else identity

    def save(self, item, save_persistent_id=True):
        if isinstance(item, _Global):
            return self.write(pickle.GLOBAL + f"{item.module}\n{item.name}\n".encode())
        if isinstance(item, _Call):
            self.save(item.function)
            self.save(tuple(item.arguments))
            return self.write(pickle.REDUCE)
        if isinstance(item, _Tensor):
            strides = tuple(step // item.array.itemsize for step in item.array.strides)
            rebuild = _Global("torch._utils", "_rebuild_tensor_v2")
            hooks = _Call(_Global("collections", "OrderedDict"))
            return self.save(_Call(rebuild, ("storage", item), 0, item.array.shape, strides, False, hooks))
        return super().save(item, save_persistent_id)


def torch_bytes(item, legacy=False):
    file = io.BytesIO()
    pickler = _TorchPickler(file, protocol=2)
    pickler.legacy = legacy
    pickler.dump(item)
    return file.getvalue()


def write_torch_zip(path, state, payload=None):
    tensors = OrderedDict((name, _Tensor(array, key)) for key, (name, array) in enumerate(state.items()))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload or torch_bytes(tensors))
        archive.writestr("archive/byteorder", "little")
        for tensor in tensors.values():
            archive.writestr(f"archive/data/{tensor.key}", tensor.array.tobytes())
        archive.writestr("archive/version", "3\n")


def write_torch_legacy(path, state):
    tensors = OrderedDict((name, _Tensor(array, key)) for key, (name, array) in enumerate(state.items()))
    with path.open("wb") as file:
        for item in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(item, file, protocol=2)
        file.write(torch_bytes(tensors, legacy=True))
        pickle.dump([tensor.key for tensor in tensors.values()], file, protocol=2)
        for tensor in tensors.values():
            file.write(struct.pack("<q", tensor.array.size) + tensor.array.tobytes())


def write_npz(path, state):
    with path.open("wb") as file:
        np.savez(file, **state)


def write_safetensors(path, state):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, array in state.items():
        kind = {"f": "F32", "i": "I64"}[array.dtype.kind]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    data = b"".join(np.ascontiguousarray(array).tobytes() for array in state.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


WRITERS = {"zip": write_torch_zip, "legacy": write_torch_legacy, "npz": write_npz, "safetensors": write_safetensors}


@pytest.fixture(scope="module")
def torch_state():
    """Random weights of torchvision's ResNet-18, by its names and in its layout."""
    random = np.random.default_rng(0)
    state = {"fc.weight": random.normal(size=(10, 512)), "fc.bias": random.normal(size=10)}

    def convolution(name, out, into, kernel):
        state[f"{name}.weight"] = random.normal(size=(out, into, kernel, kernel)) / np.sqrt(into * kernel**2)

    def norm(name, width):
        state[f"{name}.weight"] = random.uniform(0.5, 1.5, width)
        state[f"{name}.bias"] = random.normal(size=width)
        state[f"{name}.running_mean"] = random.normal(size=width)
        state[f"{name}.running_var"] = random.uniform(0.5, 1.5, width)

    convolution("conv1", 64, 3, 7)
    norm("bn1", 64)
    into = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            convolution(f"{name}.conv1", width, into, 3)
            norm(f"{name}.bn1", width)
            convolution(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn2", width)
            if into != width:
                convolution(f"{name}.downsample.0", width, into, 1)
                norm(f"{name}.downsample.1", width)
            into = width
    state = {name: value.astype("float32") for name, value in state.items()}
    return {**state, "bn1.num_batches_tracked": np.array(7)}


def torch_resnet18(images, state):
    """ResNet-18 in numpy, written from the paper: `(batch, bands, height, width)`, padding as PyTorch's."""

    def convolve(x, name, stride, pad):
        kernel = state[f"{name}.weight"].astype("float64")
        size = kernel.shape[-1]
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))[:, :, ::stride, ::stride]
        return np.einsum("bihwkl,oikl->bohw", windows, kernel, optimize=True)

    def norm(x, name):
        w, b, m, v = (
            state[f"{name}.{part}"].astype("float64")[:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - m) / np.sqrt(v + 1e-5) * w + b

    x = np.maximum(norm(convolve(images, "conv1", 2, 3), "bn1"), 0)
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))[:, :, ::2, ::2].max((-1, -2))
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = np.maximum(norm(convolve(x, f"{name}.conv1", stride, 1), f"{name}.bn1"), 0)
            y = norm(convolve(y, f"{name}.conv2", 1, 1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in state:
                x = norm(convolve(x, f"{name}.downsample.0", stride, 0), f"{name}.downsample.1")
            x = np.maximum(x + y, 0)
    return x


@pytest.fixture(scope="module")
def torch_features(torch_state):
    images = np.random.default_rng(1).normal(size=(1, 33, 32, 3))
    return images, torch_resnet18(images.transpose(0, 3, 1, 2), torch_state).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("kind", WRITERS)
def test_torchvision_files_give_torchvisions_features(tmp_path, torch_state, torch_features, kind):
    WRITERS[kind](tmp_path / "resnet18.pth", torch_state)
    model = resnet("resnet18", (33, 32))
    report = load_weights(model, tmp_path / "resnet18.pth")
    assert report.layers == (40, 40)
    assert report.unused == ["fc"]
    images, expected = torch_features
    np.testing.assert_allclose(model(images.astype("float32")), expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_resnet18_has_torchvisions_size():
    model = resnet("resnet18", (32, 32))
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 11_176_512


def test_torch_files_do_not_go_by_order(tmp_path, torch_state):
    write_npz(tmp_path / "resnet18.npz", torch_state)
    with pytest.raises(UserError, match=r"Nothing in .*resnet18.npz fits small"):
        load_weights(small((32, 32)), tmp_path / "resnet18.npz")


def test_a_pickle_that_wants_more_is_refused_and_nothing_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    payload = pickle.dumps({"conv1.weight": Evil()}, protocol=2)
    write_torch_zip(tmp_path / "evil.pth", {}, payload)
    (tmp_path / "evil_old.pth").write_bytes(payload)
    for name in ("evil.pth", "evil_old.pth"):
        with pytest.raises(UserError, match="nothing in it was run"):
            load_weights(network(), tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    tensor = _Tensor(np.zeros((64, 3, 7, 7), "float32"), 0)
    with zipfile.ZipFile(tmp_path / "short.pth", "w") as archive:
        archive.writestr("archive/data.pkl", torch_bytes({"conv1.weight": tensor}))
        archive.writestr("archive/data/0", b"\0" * 40)
    with pytest.raises(UserError, match="reaches beyond its numbers"):
        load_weights(network(), tmp_path / "short.pth")


# ---- faults


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no weights file"),
        (b"not weights at all, just text", "no weights file"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "damaged"),
        (b"PK\x03\x04" + b"\0" * 50, "damaged"),
    ],
)
def test_foreign_and_damaged_files_are_named(tmp_path, content, words):
    (tmp_path / "file.h5").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        load_weights(network(), tmp_path / "file.h5")
    assert str(tmp_path / "file.h5") in str(caught.value) and "\n" not in str(caught.value)


def test_a_truncated_keras_file_is_named(tmp_path):
    network().save(tmp_path / "model.keras")
    data = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"model\.keras"):
        load_weights(network(), tmp_path / "model.keras")


def test_missing_file_and_unfinished_run_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no weights at .*nowhere\.keras; give 'imagenet'"):
        load_weights(network(), tmp_path / "nowhere.keras")
    with pytest.raises(UserError, match=r"neither best\.keras nor last\.keras"):
        load_weights(network(), tmp_path)
