"""Delimited text, read once into cells: the one way in for every label file, share table and division."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rsml.utils.errors import UserError
from rsml.utils.files import replacing

MAX_BYTES = 2**29
"""Of one table; a million images with two hundred labels fit."""

Column = Sequence[Any] | np.ndarray
_BINARY = {text: value for value, texts in ((0, "0 0.0 false False"), (1, "1 1.0 true True")) for text in texts.split()}


@dataclass(frozen=True)
class Cells:
    """The rows of a file that hold anything, stripped of blanks, and the line of each.

    Args:
        source: The file, for messages.
        rows: All of one width.
        lines: As many as rows.
    """

    source: str
    rows: list[list[str]]
    lines: list[int]

    def below(self) -> np.ndarray:
        """`(rows - 1, columns)` object: everything but the header."""
        return _array(self.rows[1:], len(self.rows[0]))

    def all(self) -> np.ndarray:
        """`(rows, columns)` object."""
        return _array(self.rows, len(self.rows[0]))


def _array(rows: list[list[str]], width: int) -> np.ndarray:
    return np.array(rows, dtype=object).reshape(len(rows), width)


def read_cells(path: str | Path, expected: str = "a label file", ours: bool = False) -> Cells:
    """Reads a table with commas, semicolons, tabs or `|` between its cells.

    Args:
        path: The file: UTF-8, with or without a byte-order mark.
        expected: What it should be, for the message.
        ours: The table is one that rsml wrote: commas, and file names as they are, blanks and foreign bytes included.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: {'is a folder' if os.path.isdir(path) else 'no such file'}; expected {expected}")
    if (size := os.path.getsize(path)) > MAX_BYTES:
        raise UserError(f"{path}: {size / 1e9:.1f} GB are too many for one table; expected {expected}; divide it")
    data = Path(path).read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: UTF-16 text (a spreadsheet's?); save it as UTF-8")
    if (at := data.find(b"\0")) >= 0:
        raise UserError(f"{path}, line {data.count(10, 0, at) + 1}: holds a NUL byte, so it is no text; get it again")
    try:
        text = data.decode("utf-8-sig", "surrogateescape" if ours else "strict")
    except UnicodeDecodeError as fault:
        line = data.count(10, 0, fault.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text; save the label file as UTF-8") from None
    if not ours:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    first = next((line for line in io.StringIO(text) if line.strip()), None)
    if first is None:
        raise UserError(f"{path}: the file is empty; expected a header and one row an image")
    delimiter = next((mark for mark in "\t,;|" if mark in first), ",") if not ours else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=not ours)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            cells = row if ours else [cell.strip() for cell in row]
            if any(cells):
                rows.append(cells)
                lines.append(reader.line_num)
    except csv.Error as fault:
        raise UserError(f"{path}, line {reader.line_num}: {fault}; mend the label file") from None
    if not rows:
        raise UserError(f"{path}: {reader.line_num} lines without a single filled cell; expected a row an image")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise UserError(
                f"{path}, line {line}: expected {len(rows[0])} cells, found {len(row)}; mend the label file"
            )
    return Cells(str(path), rows, lines)


def write_rows(path: str | Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table whole or not at all; file names as they are, bytes that are no text included."""
    with replacing(path) as beside, open(beside, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def heading(cells: Cells) -> list[str]:
    """The names of the columns, from the first row; refuses two of one name."""
    twice = next((name for name, count in Counter(cells.rows[0]).items() if name and count > 1), None)
    if twice is not None:
        raise UserError(f"{cells.source}: two columns are named {twice!r}; name every column once")
    if len(cells.rows) == 1:
        raise UserError(f"{cells.source}: a header but no rows; expected one row an image")
    return cells.rows[0]


def binary_values(cells: np.ndarray, names: Sequence[str], images: Column, lines: Column, source: str) -> np.ndarray:
    """Turns cells of text into a `(rows, names)` uint8 array, or names the first cell that is not 0 or 1.

    Args:
        cells: `(rows, names)` object.
        names: The label columns.
        images: `(rows,)` for the message, as are `lines` and `source`.
        lines: `(rows,)`.
        source: The file.
    """
    values = pd.Series(cells.ravel(), dtype=object).map(_BINARY).to_numpy(dtype=np.float64).reshape(cells.shape)
    _refuse_cells(np.isnan(values), "0 or 1", cells, names, images, lines, source)
    return values.astype(np.uint8)


def share_values(
    cells: np.ndarray,
    names: Sequence[str],
    images: Column,
    lines: Column,
    source: str,
    tolerance: float = 1e-3,
) -> np.ndarray:
    """As `binary_values`, for shares: `(rows, names)` float32 from 0 to 1."""
    values = pd.to_numeric(pd.Series(cells.ravel(), dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    values = values.reshape(cells.shape)
    wrong = ~((values >= 0) & (values <= 1 + tolerance))
    _refuse_cells(wrong, "a share from 0 to 1", cells, names, images, lines, source)
    return values.astype(np.float32)


def _refuse_cells(
    wrong: np.ndarray,
    expected: str,
    cells: np.ndarray,
    names: Sequence[str],
    images: Column,
    lines: Column,
    source: str,
) -> None:
    bad = np.argwhere(wrong)
    if len(bad):
        row, column = bad[0]
        more = f" ({len(bad)} such cells)" if len(bad) > 1 else ""
        raise UserError(
            f"{source}, line {lines[row]} ({images[row]}), column {names[column]!r}: expected {expected}, found "
            f"{cells[row, column]!r}{more}; mend the label file"
        )
