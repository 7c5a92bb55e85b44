"""PyTorch's state files and safetensors as plain arrays: torch's own reader is large and may run what a file says."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rsml.utils.errors import UserError
from rsml.utils.guard import ZipReader, parse_json
from rsml.utils.guard.faults import Refusal
from rsml.utils.guard.memory import available_memory, in_words
from rsml.weights.source_layer import bfloat16

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
MAX_PICKLE_BYTES = 64 << 20
_REFUSED = "nothing in it was run; save the model's state_dict() and give that file"


class _StateUnpickler(pickle.Unpickler):
    """Admits dictionaries and tensors, and nothing else that a pickle could name."""

    def __init__(self, file: BinaryIO, load_storage: Callable[[tuple[Any, ...]], Callable[[], np.ndarray]]) -> None:
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
        raise Refusal(
            f"a pickle that names {module[:80]}.{name[:80]}, which a file of tensors has no use for; {_REFUSED}"
        )

    def persistent_load(self, identity: Any) -> Any:
        return self.load_storage(identity)


class _Note:
    """Stands for an object that is not needed; it does nothing."""

    def __init__(self, *_: Any) -> None:
        """Drops what it is made of."""

    def __setstate__(self, _: Any) -> None:
        """Drops what it would hold."""


def _unpickle(file: BinaryIO, load_storage: Callable[[tuple[Any, ...]], Callable[[], np.ndarray]]) -> Any:
    """Reads the next pickle of a file, after its instructions were looked through.

    A pickle of a few bytes can have the unpickler take gigabytes for its numbered memo, so no number may be larger
    than the count of instructions before it.
    """
    begin = file.tell()
    for count, (code, argument, place) in enumerate(pickletools.genops(file)):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument) > count:  # type: ignore[arg-type]
            raise Refusal(f"a pickle that numbers its parts up to {argument}; {_REFUSED}")
        if (place or 0) - begin > MAX_PICKLE_BYTES:
            raise Refusal(f"a pickle of more than {in_words(MAX_PICKLE_BYTES)} beside its tensors; {_REFUSED}")
    file.seek(begin)
    return _StateUnpickler(file, load_storage).load()


@dataclass
class _Lazy:
    """A tensor whose numbers come later in the file."""

    storage: Any
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self) -> np.ndarray:
        data = self.storage()
        if len(self.shape) > 32 or not all(isinstance(number, int) for number in (*self.shape, *self.stride)):
            raise Refusal("a tensor has no shape")
        needed = self.offset + 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        if min((self.offset, *self.shape, *self.stride)) < 0 or (0 not in self.shape and needed > data.size):
            raise Refusal("a tensor reaches beyond its numbers")
        if math.prod(self.shape) > data.size:
            raise Refusal(f"a tensor {self.shape} repeats its {data.size} numbers; save it contiguous()")
        if 0 in self.shape:
            return np.zeros(self.shape, data.dtype)
        strides = tuple(step * data.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides).copy()


def _rebuild_tensor(storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> _Lazy:
    return _Lazy(storage, offset, tuple(shape), tuple(stride))


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _numbers(data: bytes, kind: str) -> np.ndarray:
    stored = _STORAGE_TYPES[kind]
    return bfloat16(np.frombuffer(data, "<u2")) if stored == "bfloat16" else np.frombuffer(data, stored)


def read_torch_zip(archive: ZipReader, pickled: str) -> dict[str, np.ndarray]:
    """Reads the layout since PyTorch 1.6: a pickle and the numbers of each storage in a zip file.

    Args:
        archive: The file.
        pickled: Name of the pickle in it.
    """
    folder = pickled[: -len("data.pkl")]
    if f"{folder}byteorder" in archive and archive.read(f"{folder}byteorder", 16).strip() == b"big":
        raise Refusal("it was written on a big-endian machine")

    def load_storage(identity: tuple[Any, ...]) -> Callable[[], np.ndarray]:
        _, kind, key, *_ = identity
        return lambda: _numbers(archive.read(f"{folder}data/{key}"), kind)

    return _state(_unpickle(io.BytesIO(archive.read(pickled, MAX_PICKLE_BYTES)), load_storage))


def read_torch_legacy(path: Path) -> dict[str, np.ndarray]:
    """Reads the layout before PyTorch 1.6: pickles one after another, then the numbers of each storage."""
    kinds: dict[str, str] = {}
    storages: dict[str, np.ndarray] = {}

    def load_storage(identity: tuple[Any, ...]) -> Callable[[], np.ndarray]:
        _, kind, key, _, _, *view = identity
        if view and view[0] is not None:
            raise Refusal("a pickle that holds views of storages, as only very old files do")
        kinds.setdefault(key, kind)
        return lambda: storages[key]

    size = path.stat().st_size
    with path.open("rb") as file:
        if _unpickle(file, load_storage) != TORCH_MAGIC:
            raise UserError(f"{path} is a pickle, but no PyTorch state file; pickles from elsewhere are not opened.")
        for _ in range(2):  # the protocol's number, and facts of the machine that wrote it
            _unpickle(file, load_storage)
        state = _unpickle(file, load_storage)
        for key in _unpickle(file, load_storage):
            kind = kinds[key]
            count = struct.unpack("<q", file.read(8))[0]
            width = 2 if _STORAGE_TYPES[kind] == "bfloat16" else np.dtype(_STORAGE_TYPES[kind]).itemsize
            if not 0 <= count * width <= size - file.tell():
                raise Refusal("it ends in the middle of a tensor")
            storages[key] = _numbers(file.read(count * width), kind)
    return _state(state)


def _state(loaded: Any) -> dict[str, np.ndarray]:
    """The dictionary of tensors in a file, also when it lies under "state_dict", "model" or the like."""
    for key in ("state_dict", "model", "model_state_dict", "teacher"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise Refusal("it holds no dictionary of tensors")
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, _Lazy)}
    # Many tensors may share the numbers of one storage.
    asked, free = sum(8 * math.prod(tensor.shape) for tensor in tensors.values()), available_memory()
    if asked > free:
        raise Refusal(f"its tensors have {in_words(asked)}, and {in_words(free)} of memory are free")
    return {name: tensor.array() for name, tensor in tensors.items()}


_SAFE_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file; its header must account for every byte behind it, once."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        if length > size - 8:
            raise Refusal("its header is longer than the file")
        header = parse_json(file.read(length), f"{path}: its header")
        data = file.read()
    header.pop("__metadata__", None)
    ends = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    if [0, *(end for _, end in ends)] != [*(begin for begin, _ in ends), len(data)]:
        raise Refusal("its tensors leave gaps, overlap or do not end with the file")
    state = {}
    for name, entry in header.items():
        (begin, end), shape, kind = entry["data_offsets"], entry["shape"], entry["dtype"]
        if kind not in _SAFE_TYPES:
            raise Refusal(f"its tensor {name[:80]!r} is of type {kind!r}; known are {', '.join(_SAFE_TYPES)}")
        if math.prod(shape) * np.dtype(_SAFE_TYPES[kind]).itemsize != end - begin or min([0, *shape]) < 0:
            raise Refusal(f"its tensor {name[:80]!r} is {shape} of {kind} in {end - begin} bytes")
        numbers = np.frombuffer(data[begin:end], _SAFE_TYPES[kind])
        state[name] = (bfloat16(numbers) if kind == "BF16" else numbers).reshape(shape)
    return state
