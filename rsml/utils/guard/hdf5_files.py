"""HDF5 files whose every byte lies in the file itself, and whose arrays are no larger than what is stored of them."""

from __future__ import annotations

import collections
import contextlib
import io
import math
import mmap
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rsml.utils.guard.faults import Refusal, as_damaged
from rsml.utils.guard.memory import available_memory, in_words

MAX_DEPTH = 64
MAX_MEMBERS = 200_000
MAX_ATTRIBUTES = 10_000
MAX_ATTRIBUTE_BYTES = 64 << 20
_DEFLATE_LIMIT = 1032
# Shuffle, deflate and checksum are what Keras's and h5py's own options write; other filters are compiled plugins.
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_NUMBERS = "biuf"
# Loading a model opens its file several times; what was looked through and did not change since is not again.
_checked: collections.deque[object] = collections.deque(maxlen=8)


@contextlib.contextmanager
def open_hdf5(
    source: str | Path | bytes, subject: str | None = None, *, advice: str = "get the file again"
) -> Iterator[h5py.File]:
    """Opens an HDF5 file that may come from anywhere, after all of its structure was checked.

    Refused are: external and soft links, objects that are reached twice, data stored in other files, virtual data sets,
    filters but deflate, shuffle and checksum, arrays that declare more than is stored of them, chunks that unpack to
    more than a chunk, long attributes, more than 64 levels, more than 200 000 members, more numbers than memory. Faults
    while it is read name the file.

    Args:
        source: The file, or its bytes.
        subject: What is named in a fault; None is the file.
        advice: What to do when it is damaged, the end of the line.
    """
    subject = str(source) if subject is None and not isinstance(source, bytes) else subject or "HDF5"
    content = io.BytesIO(source) if isinstance(source, bytes) else source
    with as_damaged(subject, advice):
        identity = None if isinstance(source, bytes) else _identity(source)
        with h5py.File(content, "r") as file:
            if identity is None or identity not in _checked:
                _check(file, source)
                _checked.append(identity)
            yield file


def read_array(item: Any) -> NDArray[Any]:
    """Reads a data set of numbers from a file that `open_hdf5` gave."""
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in _NUMBERS or item.shape is None:
        raise Refusal(f"{getattr(item, 'name', item)} is no array of numbers")
    return np.asarray(item[()])


def _identity(path: str | Path) -> tuple[object, ...]:
    about = os.stat(path)
    return os.path.abspath(path), about.st_ino, about.st_size, about.st_mtime_ns


def _check(file: h5py.File, source: str | Path | bytes) -> None:
    """Refuses what `open_hdf5` names."""
    size = len(source) if isinstance(source, bytes) else os.path.getsize(source)
    waiting: list[tuple[h5py.Group, int]] = [(file["/"], 0)]
    seen = {h5py.h5o.get_info(file["/"].id).addr}
    stored = declared = lists = 0
    while waiting:
        group, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise Refusal(f"more than {MAX_DEPTH} levels of groups")
        lists = max(lists, _check_attributes(group, size))
        for name in group:
            place = f"{group.name.rstrip('/')}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise Refusal(f"{place} is a link to elsewhere")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                raise Refusal(f"{place} is reached by two ways")
            seen.add(address)
            if len(seen) > MAX_MEMBERS:
                raise Refusal(f"more than {MAX_MEMBERS} members")
            if isinstance(item, h5py.Group):
                waiting.append((item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                lists = max(lists, _check_attributes(item, size))
                held, claimed = _check_dataset(item, size)
                stored, declared = stored + held, declared + claimed
            else:
                raise Refusal(f"{place} is neither a group nor an array")
    if stored > size:
        raise Refusal(f"its arrays say they take {stored} bytes of {size}")
    if declared > (free := available_memory()):
        raise Refusal(f"its arrays have {in_words(declared)}, and {in_words(free)} of memory are free")
    # Each element of a list of texts of no fixed length may name the same long one.
    if lists > 1 and lists * _longest_text(source) > free // 2:
        raise Refusal(f"a list of {lists} texts that may take more than the {in_words(free)} of memory that are free")


def _longest_text(source: str | Path | bytes) -> int:
    """An upper bound of the texts of no fixed length, which lie in heaps; a heap begins with its signature and size."""
    found = 0
    with contextlib.ExitStack() as stack:
        if isinstance(source, bytes):
            content: Any = source
        else:
            file = stack.enter_context(open(source, "rb"))
            content = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        for heap in re.finditer(rb"GCOL\x01\0\0\0", content):
            size = int.from_bytes(content[heap.end() : heap.end() + 8], "little")
            found = max(found, min(size, len(content) - heap.start()))
    return found


def _check_attributes(item: h5py.Group | h5py.Dataset, size: int) -> int:
    if h5py.h5a.get_num_attrs(item.id) > MAX_ATTRIBUTES:
        raise Refusal(f"{item.name} has more than {MAX_ATTRIBUTES} attributes")
    lists = 0
    for name in item.attrs:
        found = h5py.h5a.open(item.id, name.encode("utf-8", "surrogateescape"))
        if found.get_space().get_simple_extent_type() == h5py.h5s.NULL or 0 in found.shape:
            continue
        count, kind = math.prod(found.shape), found.get_type()
        if isinstance(kind, (h5py.h5t.TypeVlenID, h5py.h5t.TypeReferenceID, h5py.h5t.TypeCompoundID)):
            raise Refusal(f"the attribute {name!r} of {item.name} is neither text nor numbers")
        if count > size or found.get_storage_size() > MAX_ATTRIBUTE_BYTES:
            raise Refusal(f"the attribute {name!r} of {item.name} is too long")
        if _is_text_elsewhere(kind):
            lists = max(lists, count)
    return lists


def _is_text_elsewhere(kind: Any) -> bool:
    return isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()


def _check_dataset(item: h5py.Dataset, size: int) -> tuple[int, int]:
    """Bytes stored of an array and bytes it declares."""
    properties = item.id.get_create_plist()
    layout = properties.get_layout()
    if layout == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise Refusal(f"the numbers of {item.name} lie in other files")
    if item.shape is None:
        return 0, 0
    if len(item.shape) > 32 or item.dtype.hasobject or item.dtype.kind not in _NUMBERS + "SV":
        raise Refusal(f"{item.name} holds {item.dtype}, which is not read here")
    declared, stored = math.prod(item.shape) * item.dtype.itemsize, item.id.get_storage_size()
    packed = False
    if layout == h5py.h5d.CHUNKED:
        filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
        if not set(filters) <= _FILTERS or len(set(filters)) < len(filters):
            raise Refusal(f"{item.name} is packed by filters that are not read here")
        packed = h5py.h5z.FILTER_DEFLATE in filters
        chunk = math.prod(item.chunks or ()) * item.dtype.itemsize
        if chunk > max(4 * declared, 4 << 20):
            raise Refusal(f"{item.name} has chunks of {chunk} bytes and {declared} in all")
        if packed:
            _check_chunks(item, chunk, size)
    if stored > size or declared > stored * (_DEFLATE_LIMIT if packed else 1):
        raise Refusal(f"{item.name} declares {declared} bytes and stores {stored} in a file of {size}")
    return stored, declared


def _check_chunks(item: h5py.Dataset, chunk: int, size: int) -> None:
    """Unpacks each chunk within its bounds: the library itself would follow one that grows without end."""
    for number in range(item.id.get_num_chunks()):
        about = item.id.get_chunk_info(number)
        if about.size > size:
            raise Refusal(f"a chunk of {item.name} says it takes {about.size} bytes of {size}")
        content = item.id.read_direct_chunk(about.chunk_offset)[1]
        if len(zlib.decompressobj().decompress(content, chunk + 64)) > chunk + 8:  # 8: room for a checksum inside
            raise Refusal(f"a chunk of {item.name} unpacks to more than the {chunk} bytes of a chunk")
