"""What a caller asks for, and what a reader is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rsml.data.readers.label_tables import LabelFile, LabelTable, TextLabels
from rsml.data.readers.npy import NpyLabels
from rsml.data.samples import Samples
from rsml.tasks import Task
from rsml.utils.errors import UserError


@dataclass(frozen=True)
class Request:
    """The arguments of `read_samples`, and the split files already read.

    Args:
        source: A folder of images, or a label file.
        labels: A label file outside its usual place.
        task: What the labels are to be read as.
        separator: Between several labels of one cell.
        group: A column that says which images belong together.
        allow_missing: Leave out what has no partner.
        parts: What each split file holds.
    """

    source: Path
    labels: Path | None = None
    task: Task | None = None
    separator: str | None = None
    group: str | None = None
    allow_missing: bool = False
    parts: tuple[LabelTable, ...] = ()


class Reader(NamedTuple):
    """One format: its name for people, whether it takes a request, and how it reads it."""

    name: str
    can_read: Callable[[Request], bool]
    read: Callable[[Request], Samples]


def open_label_file(path: str | Path, ours: bool = False) -> LabelFile:
    """Reads a `.csv`, `.tsv`, `.txt` or `.npy` file, once."""
    path = Path(path)
    if path.suffix.lower() != ".npy":
        return TextLabels(path, ours)
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; expected a label file")
    return NpyLabels(path)
