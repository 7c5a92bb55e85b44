"""Read the weights in a file as plain arrays, layer by layer, whatever wrote it; nothing in the file is executed."""

import io
import json
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rsml.utils.errors import UserError

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_MODELS = ("functional", "model", "network", "sequential")


@dataclass
class SourceLayer:
    """One layer's arrays in a file.

    Args:
        name: The layer's name, or None where the file does not keep it.
        kind: The class of the layer in snake case ("conv2d"), or "" where the file does not keep it.
        values: Array by place in the layer: "vars/0" for its own, "query/vars/0" for those of a layer inside it; in old
            HDF5 files only the order counts.
        ordered: Whether `values` is known by order alone.
    """

    name: str | None
    kind: str
    values: dict[str, np.ndarray] = field(default_factory=dict)
    ordered: bool = False

    @property
    def arrays(self) -> list[np.ndarray]:
        """The arrays in order."""
        return list(self.values.values())

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(array.size for array in self.values.values())


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
    """Reads the layers that have weights from a file or run folder, in the order of the file."""
    path = find_weights(source)
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(HDF5_MAGIC):
            with h5py.File(path, "r") as file:
                layers = _read_hdf5(file)
        elif zipfile.is_zipfile(path):
            layers = _read_zip(path)
        elif head[:1] == b"\x80":
            layers = _torch_layers(_read_torch_legacy(path))
        elif head[8:9] == b"{":
            layers = _torch_layers(_read_safetensors(path))
        else:
            raise UserError(f"{path} is no weights file: neither HDF5, .keras, PyTorch, .npz nor safetensors inside.")
    except PermissionError:
        raise UserError(f"{path} cannot be read: no permission.") from None
    except _Refused as error:
        raise UserError(
            f"{path} is a pickle that {error}; nothing in it was run. Save the model's state_dict() and give that file."
        ) from None
    except UserError:
        raise
    except Exception as error:
        # Damaged bytes make h5py, zipfile and pickle raise nearly anything.
        raise UserError(f"{path} is damaged or no weights file: {type(error).__name__}: {_first_line(error)}") from None
    layers = [layer for layer in layers if layer.values]
    if not layers:
        raise UserError(f"{path} holds no layer weights.")
    return layers


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no reason given").splitlines()[0]


# ---- Keras ----------------------------------------------------------------------------------------------------------


def _read_zip(path: Path) -> list[SourceLayer]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "model.weights.h5" in names:
            with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
                layers = _read_hdf5(file)
            return _in_config_order(layers, json.loads(archive.read("config.json")))
        pickles = [name for name in names if name.endswith("/data.pkl") or name == "data.pkl"]
        if pickles:
            return _torch_layers(_read_torch_zip(archive, pickles[0]))
    if names and all(name.endswith(".npy") for name in names):
        with np.load(path, allow_pickle=False) as file:
            return _torch_layers(dict(file))
    raise UserError(f"{path} is a zip file, but neither a .keras model, a PyTorch state file nor an .npz of arrays.")


def _read_hdf5(file: h5py.File) -> list[SourceLayer]:
    group = file.get("model_weights", file)
    if "layer_names" in group.attrs or "layer_names0" in group.attrs:
        config = file.attrs.get("model_config")
        return list(_read_named_groups(group, _kinds(json.loads(config)) if config is not None else {}))
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
    value = item[()]
    if item.attrs.get("dtype") == "bfloat16":
        return _bfloat16(np.asarray(value).view(np.uint16))
    return np.asarray(value)


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
    return sorted(layers, key=lambda layer: order.get(layer.name, len(order)))


def snake_case(name: str) -> str:
    """Keras's spelling of a class name inside a weights file."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _natural(key: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.*?)(?:_?(\d+))?", key)
    return found[1], int(found[2] or 0)


# ---- PyTorch state files: read here, because torch is large and its own reader may run what a file says --------------

_STORAGE_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class _Refused(Exception):
    """A pickle that wants more than tensors."""


class _StateUnpickler(pickle.Unpickler):
    """Admits dictionaries and tensors, and nothing else that a pickle could name."""

    def __init__(self, file: Any, load_storage: Any):
        super().__init__(file, encoding="utf-8")
        self.load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _rebuild_tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _rebuild_parameter
        if module in ("torch", "torch.storage") and name in _STORAGE_TYPES:
            return name
        if (module, name) == ("torch", "Size"):
            return tuple
        raise _Refused(f"names {module}.{name}, which a file of tensors has no use for")

    def persistent_load(self, identity: Any) -> Any:
        return self.load_storage(identity)


@dataclass
class _Lazy:
    """A tensor whose numbers come later in the file."""

    storage: Any
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self) -> np.ndarray:
        data = self.storage()
        needed = self.offset + 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        if min((self.offset, *self.shape, *self.stride)) < 0 or (0 not in self.shape and needed > data.size):
            raise ValueError("a tensor reaches beyond its numbers")
        if 0 in self.shape:
            return np.zeros(self.shape, data.dtype)
        strides = tuple(step * data.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides).copy()


def _rebuild_tensor(storage: Any, offset: int, shape: tuple, stride: tuple, *_: Any) -> _Lazy:
    return _Lazy(storage, offset, tuple(shape), tuple(stride))


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _numbers(data: bytes, kind: str) -> np.ndarray:
    kind = _STORAGE_TYPES[kind]
    return _bfloat16(np.frombuffer(data, "<u2")) if kind == "bfloat16" else np.frombuffer(data, kind)


def _bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _read_torch_zip(archive: zipfile.ZipFile, pickled: str) -> dict[str, np.ndarray]:
    folder = pickled[: -len("data.pkl")]
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder").strip() == b"big":
        raise ValueError("it was written on a big-endian machine")

    def load_storage(identity: tuple) -> Any:
        _, kind, key, *_ = identity
        return lambda: _numbers(archive.read(f"{folder}data/{key}"), kind)

    return _state(_StateUnpickler(io.BytesIO(archive.read(pickled)), load_storage).load())


def _read_torch_legacy(path: Path) -> dict[str, np.ndarray]:
    """The layout before PyTorch 1.6: pickles one after another, then the numbers of each storage."""
    storages: dict[str, list] = {}

    def load_storage(identity: tuple) -> Any:
        _, kind, key, _, _, *view = identity
        if view and view[0] is not None:
            raise _Refused("holds views of storages, as only very old files do")
        entry = storages.setdefault(key, [kind, None])
        return lambda: entry[1]

    with path.open("rb") as file:
        if _StateUnpickler(file, load_storage).load() != TORCH_MAGIC:
            raise UserError(f"{path} is a pickle, but no PyTorch state file; pickles from elsewhere are not opened.")
        for _ in range(2):  # the protocol's number, and facts of the machine that wrote it
            _StateUnpickler(file, load_storage).load()
        state = _StateUnpickler(file, load_storage).load()
        for key in _StateUnpickler(file, load_storage).load():
            kind = storages[key][0]
            count = struct.unpack("<q", file.read(8))[0]
            width = 2 if _STORAGE_TYPES[kind] == "bfloat16" else np.dtype(_STORAGE_TYPES[kind]).itemsize
            data = file.read(count * width)
            if len(data) != count * width:
                raise EOFError("the file ends in the middle of a tensor")
            storages[key][1] = _numbers(data, kind)
    return _state(state)


def _state(loaded: Any) -> dict[str, np.ndarray]:
    """The dictionary of tensors in a file, also when it lies under "state_dict" or "model"."""
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise ValueError("it holds no dictionary of tensors")
    return {str(name): value.array() for name, value in loaded.items() if isinstance(value, _Lazy)}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        if length > size:
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
        data = file.read()
    state = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        piece = data[begin:end]
        if entry["dtype"] == "BF16":
            state[name] = _bfloat16(np.frombuffer(piece, "<u2")).reshape(entry["shape"])
        elif entry["dtype"] in kinds:
            state[name] = np.frombuffer(piece, kinds[entry["dtype"]]).reshape(entry["shape"])
    return state


def _torch_layers(state: dict[str, np.ndarray]) -> list[SourceLayer]:
    """Turns `layer1.0.conv1.weight` of PyTorch's layout into the layer `layer1_0_conv1` of Keras's."""
    modules: dict[str, dict[str, np.ndarray]] = {}
    for key, value in state.items():
        module, _, part = key.rpartition(".")
        modules.setdefault(module.removeprefix("module."), {})[part] = value
    layers = []
    for module, parts in modules.items():
        weight = parts.get("weight")
        if weight is None:
            continue
        if weight.ndim == 4:
            weight = weight.transpose(2, 3, 1, 0)
        elif weight.ndim == 2:
            weight = weight.T
        names = ("bias", "running_mean", "running_var")
        arrays = [weight, *(parts[name] for name in names if name in parts)]
        values = {f"vars/{index}": array for index, array in enumerate(arrays)}
        layers.append(SourceLayer(module.replace(".", "_"), "torch", values))
    return layers
