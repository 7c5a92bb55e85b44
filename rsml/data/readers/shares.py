"""A table of land-cover shares: `land_cover.csv` in a folder, or any table read as proportions."""

from __future__ import annotations

from pathlib import Path

from rsml.data.land_cover import TABLE, read_land_cover
from rsml.data.readers.request import Reader, Request
from rsml.data.samples import Samples


def _file(request: Request) -> Path:
    if request.labels is not None:
        return request.labels
    return request.source if request.source.is_file() else request.source / TABLE


def _can_read(request: Request) -> bool:
    file = _file(request)
    return request.task == "proportions" or (request.task is None and file.name == TABLE and file.is_file())


def _read(request: Request) -> Samples:
    root = request.source if request.source.is_dir() else request.source.parent
    return read_land_cover(_file(request), root, request.allow_missing, request.group)


SHARES = Reader("a table of land-cover shares", _can_read, _read)
