"""The names of a model's classes as a user gives them: a list, a text, CSV or JSON file, or a folder of folders."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

from rsml.data.samples import check_label_names
from rsml.utils.errors import UserError
from rsml.utils.text import in_a_line

_HEADINGS = {"label", "labels", "class", "classes", "name", "names", "index", "id"}


def read_label_names(given: str) -> tuple[str, ...]:
    """Reads class names in the order of a model's outputs.

    Args:
        given: Names with commas between; or a file: text with one name a line, CSV with a column of names and perhaps
            one of numbers, JSON with a list of names or a dictionary between names and numbers (as Keras's
            `class_indices`); or a folder, whose folders are taken in sorted order, as Keras's generators number them.
    """
    try:
        path = Path(given).expanduser()
        if path.is_dir():
            names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        elif path.is_file():
            text = path.read_text(encoding="utf-8-sig")
            read = {".json": _from_json, ".csv": _from_csv}.get(path.suffix.lower(), str.splitlines)
            names = read(text)
        else:
            names = given.split(",")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, csv.Error) as error:
        raise UserError(
            f"{given}: no readable label names ({in_a_line(error)}); give one name a line, in the model's order"
        ) from None
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise UserError(f"{given}: no label names in it; give one name a line, in the model's order")
    if twice := next(((name, count) for name, count in Counter(names).items() if count > 1), None):
        raise UserError(f"{given}: the label name '{twice[0]}' occurs {twice[1]} times; names must differ")
    check_label_names(names, given)
    return tuple(names)


def _from_json(text: str) -> list[str]:
    read = json.loads(text)
    if isinstance(read, dict):
        return _in_order([(key, value) for key, value in read.items()])
    if not isinstance(read, list) or not all(isinstance(name, str) for name in read):
        raise ValueError("expected a list of names, or a dictionary of names and numbers")
    return read


def _from_csv(text: str) -> list[str]:
    rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    if len(rows) == 1:
        return rows[0]
    if rows and any(cell.strip().lower() in _HEADINGS for cell in rows[0]):
        rows = rows[1:]
    if all(len(row) == 1 for row in rows):
        return [row[0] for row in rows]
    if any(len(row) != 2 for row in rows):
        raise ValueError("expected one column of names, or one of names and one of numbers")
    return _in_order([(first, second) for first, second in rows])


def _in_order(pairs: list[tuple[Any, Any]]) -> list[str]:
    """Names by their numbers, whichever comes first in the pairs; the numbers must count from 0 (or from 1)."""
    for numbers, names in (zip(*pairs, strict=True), reversed(list(zip(*pairs, strict=True)))):
        try:
            counted = [int(number) for number in numbers]
        except (TypeError, ValueError):
            continue
        if sorted(counted) in (list(range(len(pairs))), list(range(1, len(pairs) + 1))):
            return [str(name) for _, name in sorted(zip(counted, names, strict=True))]
    raise ValueError(f"expected each of {len(pairs)} names with a number of its own, counted from 0")
