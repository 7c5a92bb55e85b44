"""The `.npy` dictionary of the GRN authors: `{"nm2label": {image name: multi-hot array}}`. Nothing of it runs."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from rsml.data.readers.label_tables import Asked, LabelTable, names_for
from rsml.data.tables import MAX_BYTES
from rsml.utils.errors import UserError


class NpyLabels:
    """A dictionary of the GRN authors, or the inner one alone; see `LabelFile`."""

    def __init__(self, path: str | Path) -> None:
        self.source = str(path)
        found = _unpickle(path)
        tables = [found, *found.values()] if isinstance(found, dict) else []
        table = next((t for t in tables if isinstance(t, dict) and t and all(_is_row(v) for v in t.values())), None)
        if table is None or not all(isinstance(name, (str, bytes)) for name in table):
            raise UserError(f"{path}: expected a dictionary of image name -> multi-hot array, found {_describe(found)}")
        self._names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in table]
        rows = [np.asarray(value).ravel() for value in table.values()]
        for name, row in zip(self._names, rows, strict=True):
            if len(row) != len(rows[0]):
                raise UserError(
                    f"{path}: {name} has {len(row)} labels, {self._names[0]} has {len(rows[0])}; expected the same"
                )
        self._values = np.stack(rows)

    def names(self) -> list[str]:
        """See `LabelFile`."""
        return self._names

    def table(self, asked: Asked) -> LabelTable:
        """See `LabelFile`; nothing in it depends on what is asked."""
        if asked.group is not None:
            raise UserError(f"{self.source}: has no columns to group by; group by a pattern of the file name")
        label_names = names_for(self._values.shape[1], self.source)
        bad = np.argwhere((self._values != 0) & (self._values != 1))
        if len(bad):
            row, column = bad[0]
            raise UserError(
                f"{self.source}: {self._names[row]}, label {label_names[column]!r}: expected 0 or 1, found "
                f"{self._values[row, column]}"
            )
        lines = np.arange(1, len(self._names) + 1)
        labels = self._values.astype(np.uint8)
        return LabelTable(self.source, self._names, lines, labels, label_names, task="multi-label")


def _is_row(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf" and value.size > 0
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(v, (int, float, np.number, np.bool_)) for v in value)
    )


def _describe(value: object) -> str:
    return f"a dictionary of {len(value)} entries" if isinstance(value, dict) else f"a {type(value).__name__}"


def _unpickle(path: str | Path) -> object:
    if os.path.getsize(path) > MAX_BYTES:
        raise UserError(f"{path}: {os.path.getsize(path) / 1e9:.1f} GB are too many for a label file")
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(file)  # type: ignore[no-untyped-call]
            if dtype.kind != "O" or int(np.prod(shape)) != 1:
                raise UserError(f"{path}: expected one dictionary, found an array of {dtype} with shape {shape}")
            found = _Unpickler(file, encoding="latin1").load()
    except (UserError, OSError):
        raise
    except _RefusedError as refusal:
        raise UserError(
            f"{path}: refused, since reading it would run {refusal}; a label file needs numpy arrays and plain "
            "containers only; get it from its authors or convert it to CSV"
        ) from None
    except Exception as fault:  # A damaged pickle raises whatever its bytes happen to mean.
        raise UserError(f"{path}: not a readable .npy file ({type(fault).__name__}: {fault}); get it again") from None
    return found.ravel()[0] if isinstance(found, np.ndarray) and found.size == 1 else found


class _RefusedError(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    """Rebuilds numpy arrays and plain containers; anything else that a pickle names is refused before it is touched."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if allowed is None:
            raise _RefusedError(f"{module}.{name}")
        return allowed


class _Ndarray:
    """Stands for `numpy.ndarray`, which a pickle may name and not call: a call could ask for any amount of memory."""


def _array(kind: type, shape: object, code: object) -> np.ndarray:
    if kind is not _Ndarray:
        raise _RefusedError(repr(kind))
    return np.ndarray(0, np.int8)  # The state that follows in the pickle gives shape, type and content.


def _scalar(dtype: np.dtype, data: bytes) -> object:
    if dtype.hasobject:
        raise _RefusedError("a numpy scalar that holds objects")
    return np.frombuffer(data, dtype)[0]


def _bytes(*content: object) -> bytes:
    if any(isinstance(part, (int, np.integer)) for part in content):
        raise _RefusedError("bytes of a number")
    return bytes(*content)


def _latin1_bytes(text: str, encoding: str) -> bytes:
    # How Python 2 and protocol 2 write bytes. Other codecs could be asked to unpack bombs.
    if encoding != "latin1":
        raise _RefusedError(f"codec {encoding}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1_bytes,
    ("collections", "defaultdict"): defaultdict,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "bytes"): _bytes,
    **{("builtins", kind.__name__): kind for kind in (dict, list, tuple, set, frozenset, int, float, bool, str)},
}
