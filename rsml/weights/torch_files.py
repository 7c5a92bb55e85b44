"""Read PyTorch state files as data: torch is large, and its own reader may run what a file says."""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsml.utils.errors import UserError

TORCH_MAGIC = 0x1950A86A20F9469CFC6C

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


# Notes that training leaves beside tensors; each becomes an empty object, and what it would hold is dropped.
_NOTES = {
    ("argparse", "Namespace"),
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("pathlib", "PosixPath"),
    ("torch", "device"),
    ("torch", "dtype"),
}


class Refused(Exception):
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
        if (module, name) in _NOTES:
            return _Note
        raise Refused(f"names {module}.{name}, which a file of tensors has no use for")

    def persistent_load(self, identity: Any) -> Any:
        return self.load_storage(identity)


class _Note:
    """Stands for an object that is not needed; it does nothing."""

    def __init__(self, *_: Any) -> None:
        """Drops what it is made of."""

    def __setstate__(self, _: Any) -> None:
        """Drops what it would hold."""


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
    return bfloat16(np.frombuffer(data, "<u2")) if kind == "bfloat16" else np.frombuffer(data, kind)


def bfloat16(bits: np.ndarray) -> np.ndarray:
    """The float32 numbers of bfloat16's bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_torch_zip(archive: zipfile.ZipFile, pickled: str) -> dict[str, np.ndarray]:
    """The tensors of a file of PyTorch 1.6 and later, whose pickle in the archive is named `pickled`."""
    folder = pickled[: -len("data.pkl")]
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder").strip() == b"big":
        raise ValueError("it was written on a big-endian machine")

    def load_storage(identity: tuple) -> Any:
        _, kind, key, *_ = identity
        return lambda: _numbers(archive.read(f"{folder}data/{key}"), kind)

    return _state(_StateUnpickler(io.BytesIO(archive.read(pickled)), load_storage).load())


def read_torch_legacy(path: Path) -> dict[str, np.ndarray]:
    """The layout before PyTorch 1.6: pickles one after another, then the numbers of each storage."""
    storages: dict[str, list] = {}

    def load_storage(identity: tuple) -> Any:
        _, kind, key, _, _, *view = identity
        if view and view[0] is not None:
            raise Refused("holds views of storages, as only very old files do")
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
    """The dictionary of tensors in a file, also when it lies under "state_dict", "model" or the like."""
    for key in ("state_dict", "model", "model_state_dict", "teacher"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise ValueError("it holds no dictionary of tensors")
    return {str(name): value.array() for name, value in loaded.items() if isinstance(value, _Lazy)}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file."""
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
            state[name] = bfloat16(np.frombuffer(piece, "<u2")).reshape(entry["shape"])
        elif entry["dtype"] in kinds:
            state[name] = np.frombuffer(piece, kinds[entry["dtype"]]).reshape(entry["shape"])
    return state
