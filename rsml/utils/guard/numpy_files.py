"""numpy's files: numbers and text only, no pickles, and no more memory than the file has numbers for."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from rsml.utils.guard.faults import Damaged, Refusal, as_damaged
from rsml.utils.guard.zip_files import ZipReader

_KINDS = "biufUS"


def read_npz(
    path: str | Path,
    names: Collection[str] | None = None,
    *,
    kinds: str = _KINDS,
    advice: str = "get the file again",
) -> dict[str, NDArray[Any]]:
    """Reads the arrays of an `.npz` file.

    Args:
        path: The file.
        names: The arrays that are needed, each of which must be there; None reads all.
        kinds: Kinds of numbers allowed, as `dtype.kind` names them.
        advice: What to do when it is damaged, the end of the line.
    """
    with ZipReader(path, advice=advice) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.names}
        if len(members) < len(archive.names) or not all(name.endswith(".npy") for name in archive.names):
            raise Damaged(f"{path}: not an .npz file of arrays; {advice}")
        arrays = {}
        for name in members if names is None else names:
            member = members.get(name, f"{name}.npy")
            size = archive.size(member) if member in archive else 0
            with archive.open(member) as file:
                arrays[name] = _array(file, size, kinds)
                if file.read(1):
                    raise Refusal("it is longer than it says")
        return arrays


def read_npy(
    path: str | Path, *, kinds: str = _KINDS, ndim: int | None = None, advice: str = "get the file again"
) -> NDArray[Any]:
    """Reads an `.npy` file into memory.

    Args:
        path: The file.
        kinds: Kinds of numbers allowed, as `dtype.kind` names them.
        ndim: Number of axes it must have.
        advice: What to do when it is damaged, the end of the line.
    """
    with as_damaged(str(path), advice), open(path, "rb") as file:
        array = _array(file, Path(path).stat().st_size, kinds)
        _check_axes(array.shape, ndim)
        return array


def map_npy(
    path: str | Path, *, kinds: str = _KINDS, ndim: int | None = None, advice: str = "get the file again"
) -> NDArray[Any]:
    """Maps an `.npy` file into memory, read only, after its header was compared with its size; see `read_npy`."""
    with as_damaged(str(path), advice), open(path, "rb") as file:
        shape, fortran, dtype = _header(file, Path(path).stat().st_size, kinds)
        _check_axes(shape, ndim)
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _check_axes(shape: tuple[int, ...], ndim: int | None) -> None:
    if ndim is not None and len(shape) != ndim:
        raise Refusal(f"it holds an array {shape}, expected {ndim} axes")


def _header(file: BinaryIO, size: int, kinds: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise Refusal(f"it is of version {version} of the format; 1.0 and 2.0 are read")
    shape, fortran, dtype = read(file)  # type: ignore[no-untyped-call]
    if dtype.hasobject or dtype.kind not in kinds or dtype.shape:
        raise Refusal(f"it holds {dtype}, which is not read here")
    if any(side < 0 for side in shape) or len(shape) > 32:
        raise Refusal(f"it says it is an array {shape[:4]}")
    declared, stored = math.prod(shape) * dtype.itemsize, size - file.tell()
    if declared != stored:
        raise Refusal(f"it declares {declared} bytes of numbers and holds {stored}")
    return shape, fortran, dtype


def _array(file: BinaryIO, size: int, kinds: str) -> NDArray[Any]:
    shape, fortran, dtype = _header(file, size, kinds)
    array = np.empty(math.prod(shape), dtype)
    view, done = array.view(np.uint8).data if array.nbytes else memoryview(b""), 0
    while done < len(view):
        count = file.readinto(view[done : done + (16 << 20)])  # type: ignore[attr-defined]
        if not count:
            raise Refusal(f"it ends after {done} of {len(view)} bytes")
        done += count
    return array.reshape(shape, order="F" if fortran else "C")
