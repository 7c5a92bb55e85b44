"""Read the weights in a file as plain arrays, layer by layer, whatever wrote it; nothing in the file is executed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rsml.utils.errors import UserError
from rsml.utils.guard import ZipReader, parse_json, read_npz
from rsml.utils.guard.faults import as_damaged
from rsml.utils.guard.hdf5_files import open_hdf5, read_array
from rsml.weights.source_layer import SourceLayer, bfloat16
from rsml.weights.torch_files import read_safetensors, read_torch_legacy, read_torch_zip
from rsml.weights.torch_names import keras_layers

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_MODELS = ("functional", "model", "network", "sequential")


def find_weights(source: str | Path) -> Path:
    """Finds the file that a path means: itself, or the best model of a run folder."""
    path = Path(source).expanduser()
    if path.is_dir():
        for name in ("best.keras", "last.keras"):
            if (path / name).is_file():
                return path / name
        raise UserError(
            f"{path} holds neither best.keras nor last.keras; give a finished run folder or a weights file."
        )
    if not path.is_file():
        raise UserError(
            f"There are no weights at {path}; give 'imagenet', a .keras, .h5, .weights.h5, .pth, .npz or .safetensors "
            "file, or a run folder."
        )
    return path


def read_weights(source: str | Path) -> list[SourceLayer]:
    """Reads the layers that have weights from a file or run folder, in the order of the file.

    A layer that holds NaN or infinity is refused by name.
    """
    path = find_weights(source)
    with as_damaged(str(path), "get the file again, or name another"):
        layers = [layer for layer in _read(path) if layer.values]
    if not layers:
        raise UserError(f"{path} holds no layer weights.")
    for layer in layers:
        for place, value in layer.values.items():
            check_finite(str(path), f"{layer.name or layer.kind} ({place})", value)
    return layers


def check_finite(source: str, name: str, value: np.ndarray) -> None:
    """Refuses weights that hold NaN or infinity, by name."""
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        what = "NaN" if np.isnan(value).any() else "infinity"
        raise UserError(f"{source}: its weights {name} hold {what}; the training that made them diverged, give others")


def _read(path: Path) -> list[SourceLayer]:
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(HDF5_MAGIC):
        with open_hdf5(path) as file:
            return _read_hdf5(file, str(path))
    if head[:2] == b"PK":
        return _read_zip(path)
    if head[:1] == b"\x80":
        return _torch_layers(read_torch_legacy(path))
    if head[8:9] == b"{":
        return _torch_layers(read_safetensors(path))
    raise UserError(f"{path} is no weights file: neither HDF5, .keras, PyTorch, .npz nor safetensors inside.")


def _read_zip(path: Path) -> list[SourceLayer]:
    with ZipReader(path) as archive:
        if WEIGHTS in archive:
            config = parse_json(archive.read(CONFIG), f"{path}: {CONFIG} in it", allow_nan=True)
            with open_hdf5(archive.read(WEIGHTS), f"{path}: {WEIGHTS} in it") as file:
                return _in_config_order(_read_hdf5(file, str(path)), config)
        pickles = [name for name in archive.names if name.endswith("/data.pkl") or name == "data.pkl"]
        if pickles:
            return _torch_layers(read_torch_zip(archive, pickles[0]))
        arrays = bool(archive.names) and all(name.endswith(".npy") for name in archive.names)
    if arrays:
        return _torch_layers(read_npz(path, kinds="biuf"))
    raise UserError(f"{path} is a zip file, but neither a .keras model, a PyTorch state file nor an .npz of arrays.")


# ---- Keras ----------------------------------------------------------------------------------------------------------


def _read_hdf5(file: h5py.File, subject: str) -> list[SourceLayer]:
    group = file.get("model_weights", file)
    if "layer_names" in group.attrs or "layer_names0" in group.attrs:
        config = file.attrs.get("model_config")
        kinds = _kinds(parse_json(config, f"{subject}: its config", allow_nan=True)) if config is not None else {}
        return list(_read_named_groups(group, kinds))
    return list(_read_keras3_groups(file))


def _read_keras3_groups(group: h5py.Group) -> Iterator[SourceLayer]:
    """Layers of a Keras 3 weights file, where groups are called after the class and each keeps its layer's name."""
    if "layers" in group:
        for key in sorted(group["layers"], key=_natural):
            inner = group["layers"][key]
            if "layers" in inner:
                yield from _read_keras3_groups(inner)
            else:
                name = inner["vars"].attrs.get("name") if "vars" in inner else None
                yield SourceLayer(name, re.sub(r"_\d+$", "", key), dict(_arrays(inner)))
        return
    for key in sorted(group):
        if key not in ("optimizer", "vars") and isinstance(group[key], h5py.Group):
            yield from _read_keras3_groups(group[key])


def _arrays(group: h5py.Group, place: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for key in sorted(group, key=_natural):
        item = group[key]
        if isinstance(item, h5py.Dataset):
            yield place + key, _dataset(item)
        elif "seed_generator" not in key:  # the state of dropout's random numbers is no weight
            yield from _arrays(item, f"{place}{key}/")


def _dataset(item: h5py.Dataset) -> np.ndarray:
    if item.attrs.get("dtype") == "bfloat16" and item.dtype.itemsize == 2:
        return bfloat16(np.asarray(item[()]).view(np.uint16))
    return read_array(item)


def _read_named_groups(group: h5py.Group, kinds: dict[str, str]) -> Iterator[SourceLayer]:
    """Layers of an old HDF5 file: one group a layer, its arrays in the order of the attribute `weight_names`."""
    for name in attribute_names(group, "layer_names"):
        inner = group[name]
        weights = attribute_names(inner, "weight_names")
        owners = [_owner(weight, kinds) for weight in weights]
        nested = kinds.get(name) in _MODELS or (name not in kinds and len(set(owners)) > 1)
        found: dict[str, SourceLayer] = {}
        for weight, owner in zip(weights, owners, strict=True):
            key = owner if nested else name
            layer = found.setdefault(key, SourceLayer(key, kinds.get(key, ""), ordered=True))
            layer.values[weight] = _dataset(inner[weight])
        yield from found.values()


def _owner(weight: str, kinds: dict[str, str]) -> str:
    """The layer in the path of an array of a nested model; models may stand before it."""
    steps = weight.split("/")
    return next((step for step in steps if kinds.get(step, "model") not in _MODELS), steps[0])


def attribute_names(group: h5py.Group, key: str) -> list[str]:
    """Reads a list of names kept as an attribute, which Keras cuts into numbered ones when it is long."""
    values = list(group.attrs[key]) if key in group.attrs else []
    index = 0
    while f"{key}{index}" in group.attrs:
        values += list(group.attrs[f"{key}{index}"])
        index += 1
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]


def _config_layers(config: Any) -> Iterator[dict[str, Any]]:
    """The layer entries of a model config in order, those of nested models in place."""
    inner = config.get("config", {}) if isinstance(config, dict) else {}
    layers = inner if isinstance(inner, list) else inner.get("layers", [])
    for layer in layers:
        if isinstance(layer.get("config"), dict) and "layers" in layer["config"]:
            yield layer
            yield from _config_layers(layer)
        else:
            yield layer


def _kinds(config: Any) -> dict[str, str]:
    names = (
        (layer.get("name") or layer["config"].get("name"), layer["class_name"]) for layer in _config_layers(config)
    )
    return {name: snake_case(kind.split(">")[-1]) for name, kind in names if name}


def _in_config_order(layers: list[SourceLayer], config: Any) -> list[SourceLayer]:
    order = {name: index for index, name in enumerate(_kinds(config))}
    return sorted(layers, key=lambda layer: order.get(layer.name or "", len(order)))


def snake_case(name: str) -> str:
    """Keras's spelling of a class name inside a weights file."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _natural(key: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*?)(?:_?(\d+))?", key)
    assert found  # of any key
    return found[1], int(found[2] or 0)


# ---- PyTorch ---------------------------------------------------------------------------------------------------------


def _torch_layers(state: dict[str, np.ndarray]) -> list[SourceLayer]:
    """The layers of a state in PyTorch's layout, in the names that the networks here have."""
    return [
        SourceLayer(name, "torch", {f"vars/{index}": array for index, array in enumerate(arrays)})
        for name, arrays in keras_layers(state).items()
    ]
