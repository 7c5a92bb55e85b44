"""Label files: the one that was given, ours, UC Merced's, that of AID and DFC15, the only table of a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rsml.data.readers.joining import join
from rsml.data.readers.request import Reader, Request, open_label_file
from rsml.data.samples import Samples
from rsml.utils.errors import UserError

MANIFEST = "samples.csv"
_OURS = (MANIFEST, "labels.csv")
_UC_MERCED = ("landuse_multilabeled.txt",)
_AID_AND_DFC15 = ("multilabel.csv", "multilabel.txt")


def _given(request: Request) -> bool:
    return request.labels is not None or request.source.is_file()


def _read_given(request: Request) -> Samples:
    if not request.source.is_file():
        assert request.labels is not None
        return join(request, request.labels, open_label_file(request.labels), request.source, whole=True)
    if request.labels is not None:
        raise UserError(
            f"{request.source} is a file; with a label file ({request.labels}) it must be the folder of the images"
        )
    return join(request, request.source, open_label_file(request.source), request.source.parent, whole=False)


def _find(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of some files that a folder holds, in any case."""
    there = {entry.name.lower(): Path(entry.path) for entry in os.scandir(folder) if entry.is_file()}
    return next((there[name] for name in names if name in there), None)


def _usual(name: str, files: Sequence[str], ours: bool = False) -> Reader:
    """A label file that is known by its name. Single-label reads published multi-label sets by their class folders."""

    def can_read(request: Request) -> bool:
        return (ours or request.task != "single-label") and _find(request.source, files) is not None

    def read(request: Request) -> Samples:
        file = _find(request.source, files)
        assert file is not None
        manifest = file.name.lower() == MANIFEST
        return join(request, file, open_label_file(file, ours=manifest), request.source, whole=True, plain=ours)

    return Reader(name, can_read, read)


def _tables(request: Request) -> list[Path]:
    if _has_class_folders(request.source):
        return []
    return sorted(
        Path(entry.path)
        for entry in os.scandir(request.source)
        if entry.is_file() and entry.name.lower().endswith((".csv", ".tsv", ".npy"))
    )


def _has_class_folders(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        below = [entry.path for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    while len(below) == 1:
        with os.scandir(below[0]) as entries:
            below = [entry.path for entry in entries if entry.is_dir() and not entry.is_symlink()]
    return len(below) > 1


def _read_only_table(request: Request) -> Samples:
    tables = _tables(request)
    if len(tables) > 1:
        raise UserError(
            f"{request.source}: {len(tables)} tables could hold the labels "
            f"({', '.join(path.name for path in tables[:4])}); say which with --labels (in Python: labels=)"
        )
    return join(request, tables[0], open_label_file(tables[0]), request.source, whole=True)


GIVEN = Reader("the label file that was given", _given, _read_given)
OURS = _usual("a folder with a table of rsml's", _OURS, ours=True)
UC_MERCED = _usual("UC Merced's multi-label folder", _UC_MERCED)
AID_AND_DFC15 = _usual("a multi-label folder as AID's and DFC15's", _AID_AND_DFC15)
ONLY_TABLE = Reader("images with the only table beside them", lambda request: bool(_tables(request)), _read_only_table)
