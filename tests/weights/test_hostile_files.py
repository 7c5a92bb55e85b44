"""Model files that point elsewhere, lie about their sizes, hold NaN or are damaged: one line, and nothing runs."""

import json
import pickle
import tracemalloc
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from rsml.models import load_model, load_weights
from rsml.utils.errors import UserError
from rsml.utils.guard.memory import check_fits_memory, memory_of
from rsml.weights.arrays import read_weights
from tests.utils.mutate import mutants
from tests.weights.test_load import write_npz, write_safetensors, write_torch_legacy, write_torch_zip


def network():
    image = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(image))
    return keras.Model(image, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x)))


def write_good_files(folder):
    """One small good file of each kind."""
    model = network()
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    model.save_weights(folder / "m.weights.h5")
    state = {"conv1.weight": np.ones((4, 3, 3, 3), "f4"), "conv1.bias": np.ones(4, "f4")}
    write_torch_zip(folder / "m.pth", state)
    write_torch_legacy(folder / "old.pth", state)
    write_npz(folder / "m.npz", state)
    write_safetensors(folder / "m.safetensors", state)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    write_good_files(folder)
    return folder


def copy(saved, tmp_path, name):
    path = tmp_path / name
    path.write_bytes((saved / name).read_bytes())
    return path


def conv(file):
    """The group and name of the convolution's kernel in any layout of Keras."""
    found = []
    file.visititems(
        lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) and item.ndim == 4 else None
    )
    group, _, name = found[0].rpartition("/")
    return file[group], name


@pytest.mark.parametrize("name", ["m.h5", "m.weights.h5"])
@pytest.mark.parametrize("trick", ["external", "virtual", "soft", "external link"])
def test_bytes_of_other_files_never_become_weights(saved, tmp_path, name, trick):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"password" * 54)
    path = copy(saved, tmp_path, name)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = np.zeros((3, 3, 3, 4), "f4")
    with h5py.File(path, "r+") as file:
        group, kernel = conv(file)
        del group[kernel]
        if trick == "external":
            group.create_dataset(kernel, (3, 3, 3, 4), "f4", external=[(str(secret), 0, 432)])
        elif trick == "virtual":
            layout = h5py.VirtualLayout((3, 3, 3, 4), "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", (3, 3, 3, 4))
            group.create_virtual_dataset(kernel, layout)
        else:
            to = h5py.SoftLink("/a") if trick == "soft" else h5py.ExternalLink(str(tmp_path / "other.h5"), "/a")
            group[kernel] = to
    calls = [lambda: load_weights(network(), path)] + ([lambda: load_model(path)] if name == "m.h5" else [])
    for call in calls:
        with pytest.raises(UserError, match=r"lie in other files|a link to elsewhere"):
            call()


def repacked(saved, tmp_path, change, config=None):
    """The `.keras` file with its weights, or its config, changed."""
    path, inner = tmp_path / "m.keras", tmp_path / "inner.h5"
    with zipfile.ZipFile(saved / "m.keras") as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith(".h5") and change:
                inner.write_bytes(content)
                with h5py.File(inner, "r+") as file:
                    change(file)
                content = inner.read_bytes()
            if name == "config.json" and config:
                read = json.loads(content)
                config(read)
                content = json.dumps(read)
            bad.writestr(name, content)
    return path


def test_a_keras_file_whose_weights_point_elsewhere_is_refused(saved, tmp_path):
    def link(file):
        group, kernel = conv(file)
        del group[kernel]
        group[kernel] = h5py.ExternalLink("/etc/hostname", "/")

    path = repacked(saved, tmp_path, link)
    for call in (load_model, lambda path: load_weights(network(), path)):
        with pytest.raises(UserError, match=r"m\.keras: model\.weights\.h5 in it: .* is a link to elsewhere"):
            call(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(saved, tmp_path, value):
    def spoil(file):
        group, kernel = conv(file)
        numbers = group[kernel][...]
        numbers[0, 1, 2, 3] = value
        group[kernel][...] = numbers

    path = repacked(saved, tmp_path, spoil)
    what = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(UserError, match=rf"m\.keras: its weights conv/kernel hold {what}"):
        load_model(path)
    with pytest.raises(UserError, match=rf"m\.keras: its weights conv .* hold {what}"):
        read_weights(path)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_network_larger_than_memory_is_refused_before_it_is_built(saved, tmp_path, suffix):
    def grow(config):
        next(entry for entry in config["config"]["layers"] if entry["class_name"] == "Dense")["config"]["units"] = (
            10**12
        )

    if suffix == "keras":
        path = repacked(saved, tmp_path, None, grow)
    else:
        path = copy(saved, tmp_path, "m.h5")
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            grow(config)
            file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(UserError, match=rf"m\.{suffix}: a step of 1 images of 8 x 8 x 3 needs about 21\.8 TiB"):
        load_model(path)
    # Nothing of it is left over for Keras to build later.
    assert network()(np.zeros((1, 8, 8, 3))).shape == (1, 2)


def test_memory_of_a_step_is_counted_from_shapes():
    image = keras.Input((10, 10, 3))
    model = keras.Model(image, layers.Conv2D(4, 3, padding="same")(image))
    weights, images, outputs = 4 * (3 * 3 * 3 * 4 + 4), 4 * 300, 4 * 400
    assert memory_of(model) == weights + images + images + outputs
    assert memory_of(model, 8, training=True) >= 4 * weights + 8 * (images + outputs)
    check_fits_memory(model, available=memory_of(model))
    with pytest.raises(UserError, match=r"a step of 1 images of 10 x 10 x 3 needs about .* are free; make image_size"):
        check_fits_memory(model, available=memory_of(model) - 1)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "numbers its parts up to 2147483647"),
        (b"\x80\x02cposix\nsystem\nX\x02\0\0\0id\x85R.", "names posix.system"),
        (b"\x80\x02cbuiltins\neval\n.", "names builtins.eval"),
        (b"\x80\x02]" + b"(" * 10, "damaged"),
        (pickle.dumps([1, 2]), "no dictionary of tensors"),
    ],
)
def test_pickles_that_are_refused(tmp_path, payload, words):
    write_torch_zip(tmp_path / "m.pth", {}, payload)
    tracemalloc.start()
    with pytest.raises(UserError, match=words):
        read_weights(tmp_path / "m.pth")
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "gaps, overlap"),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, r"is \[3\] of F32 in 8 bytes"),
        ({"a": {"dtype": "F9", "shape": [2], "data_offsets": [0, 8]}}, "type 'F9'"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "damaged"),
        (
            {key: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for key in "ab"},
            "gaps, overlap",
        ),
        ({"a": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}}, "is .* of F32"),
    ],
)
def test_safetensors_that_are_refused(tmp_path, header, words):
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(UserError, match=words):
        read_weights(tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").write_bytes((2**40).to_bytes(8, "little") + text)
    with pytest.raises(UserError, match="header is longer"):
        read_weights(tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5", "m.pth", "old.pth", "m.npz", "m.safetensors"])
def test_damage_is_one_line_and_takes_no_memory(saved, tmp_path, name):
    content, path = (saved / name).read_bytes(), tmp_path / name
    refused = 0
    tracemalloc.start()
    for mutant in mutants(content, 60):
        path.write_bytes(mutant)
        try:
            read_weights(path)
        except UserError as fault:
            refused += 1
            assert "\n" not in str(fault) and name in str(fault)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 10 and peak < 200 << 20
