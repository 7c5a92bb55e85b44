"""What the cells of a label file mean: which column names the image, which are labels, scene, split or a group."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from rsml.data.catalog import CATALOG
from rsml.data.image_index import is_image_name
from rsml.data.tables import Cells, binary_values, heading, read_cells
from rsml.tasks import Task
from rsml.utils.errors import UserError

logger = logging.getLogger("rsml")

# Column names, in lower case without anything but letters; the first that is there wins.
_PATH = ("path", "imagepath", "filepath", "filename", "imagefile", "file", "imagename", "image", "img", "imagelabel",
         "name", "imageid", "id")  # fmt: skip
_SPLIT = ("split", "subset", "partition", "set", "part")
_SCENE = ("scene", "sceneclass", "scenelabel")
_LABELS = ("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "classname")
_PLURAL = ("labels", "tags", "classes", "categories")
_SPLIT_WORDS = {
    word: split
    for split, words in {
        "train": "train training tr",
        "valid": "valid val validation dev",
        "test": "test testing te ts",
    }.items()
    for word in words.split()
}


class Asked(NamedTuple):
    """What a label file is read for.

    Args:
        task: `"single-label"` keeps a label such as `tennis court` whole.
        separator: What separates the labels of one cell; found from the file if None.
        group: The column that says which images belong together; it is no label.
        is_image: Tells whether a cell names an image; a first row whose first cell does is no header.
    """

    task: Task | None = None
    separator: str | None = None
    group: str | None = None
    is_image: Callable[[str], bool] = is_image_name


@dataclass(frozen=True)
class LabelTable:
    """What one label file says, before any image is looked for.

    Args:
        source: The file, for messages.
        names: `(rows,)` the images as the file writes them.
        lines: `(rows,)` the line of each row (for `.npy`: its number in the dictionary).
        labels: `(rows, labels)` uint8, or None when the file only lists images.
        label_names: As the file writes them.
        scenes: `(rows,)` or None.
        splits: `(rows,)` of `train`, `valid`, `test`, `""`, or None.
        groups: `(rows,)` or None.
        task: What the file settles by its form, or None.
    """

    source: str
    names: list[str]
    lines: np.ndarray
    labels: np.ndarray | None
    label_names: tuple[str, ...]
    scenes: np.ndarray | None = None
    splits: np.ndarray | None = None
    groups: np.ndarray | None = None
    task: Task | None = None


class LabelFile(Protocol):
    """A label file that has been read; what its columns mean is asked when the images are known."""

    def names(self) -> list[str]:
        """The images it names, as far as can be seen without knowing them."""

    def table(self, asked: Asked) -> LabelTable:
        """Its content."""


def join_tables(tables: Sequence[LabelTable]) -> LabelTable:
    """Puts the rows of several label files with the same labels under one another."""
    first = tables[0]
    for table in tables:
        if table.labels is None or table.label_names != first.label_names:
            raise UserError(f"{table.source}: its label columns are not those of {first.source}; expected the same")
    return replace(
        first,
        names=[name for table in tables for name in table.names],
        lines=np.concatenate([table.lines for table in tables]),
        labels=np.concatenate([table.labels for table in tables]),
        scenes=None,
        splits=None,
    )


def split_word(text: str) -> str | None:
    """Reads `train`, `Training`, `images_tr`, `val`, `validation`, `test` ... as a split; None for any other word."""
    word = re.sub(r"images?|imgs?|data|set|[^a-z]", "", text.lower())
    return _SPLIT_WORDS.get(word)


class TextLabels:
    """A label file of delimited text.

    Args:
        path: The file.
        ours: As for `read_cells`.
    """

    def __init__(self, path: str | Path, ours: bool = False) -> None:
        self.cells: Cells = read_cells(path, ours=ours)

    def names(self) -> list[str]:
        """See `LabelFile`."""
        header = not is_image_name(self.cells.rows[0][0])
        column = _named(self.cells.rows[0], _PATH) if header else None
        return [row[column or 0] for row in self.cells.rows[header:]]

    def table(self, asked: Asked) -> LabelTable:
        """See `LabelFile`."""
        source, group = self.cells.source, asked.group
        # A single name is no header: there would be nothing under it.
        header = not asked.is_image(self.cells.rows[0][0]) and (len(self.cells.rows) > 1 or len(self.cells.rows[0]) > 1)
        head = heading(self.cells) if header else [""] * len(self.cells.rows[0])
        cells = self.cells.below() if header else self.cells.all()
        lines = np.array(self.cells.lines[header:])
        image = _named(head, _PATH) or 0
        rest = [number for number in range(len(head)) if number != image]
        if header:
            rest = _without_unnamed(rest, head, cells, source)
        names = cells[:, image].tolist()
        if "" in names:
            raise UserError(f"{source}, line {lines[names.index('')]}: no image is named; expected one in every row")
        splits = scenes = groups = None
        split, scene = _named(head, _SPLIT), _named(head, _SCENE)
        if split in rest:
            splits = _splits(cells[:, split], head[split], lines, source)
        if scene in rest and not set(cells[:, scene]) & {"0", "1"}:
            scenes = cells[:, scene]
        taken = {split if splits is not None else None, scene if scenes is not None else None}
        rest = [number for number in rest if number not in taken]
        if group is not None:
            if group not in head or not header:
                raise UserError(f"{source}: no column {group!r} to group by; its columns are {', '.join(head[:6])}")
            groups = cells[:, head.index(group)]
            rest = [number for number in rest if head[number] != group]
        found = LabelTable(source, names, lines, None, (), scenes, splits, groups)
        if not rest:
            return found
        lists = _named([head[number] for number in rest], _LABELS)
        lists = rest[0] if lists is None and len(rest) == 1 else None if lists is None else rest[lists]
        if lists is not None and not set(cells[:, lists]) <= {"0", "1", "0.0", "1.0", ""}:
            ignored = [head[number] for number in rest if number != lists]
            if ignored:
                listed = ", ".join(map(repr, ignored[:8]))
                logger.info("%s: labels are read from column %r; ignored: %s", source, head[lists], listed)
            labels, label_names, several = _split_lists(cells[:, lists].tolist(), asked.task, asked.separator, source)
            plural = _plain(head[lists]) in _PLURAL
            form: Task = "multi-label" if several or (plural and asked.task != "single-label") else "single-label"
            return replace(found, labels=labels, label_names=label_names, task=form)
        label_names = tuple(head[number] for number in rest) if header else names_for(len(rest), source)
        labels = binary_values(cells[:, rest], label_names, names, lines, source)
        one_hot = bool((labels.sum(axis=1) == 1).all())
        return replace(found, labels=labels, label_names=label_names, task=None if one_hot else "multi-label")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _named(head: Sequence[str], words: Sequence[str]) -> int | None:
    """The column that has one of some names, the first of them that is there."""
    plain = {word: number for number, word in reversed(list(enumerate(map(_plain, head))))}
    return next((plain[word] for word in words if word in plain), None)


def _without_unnamed(rest: list[int], head: list[str], cells: np.ndarray, source: str) -> list[int]:
    """Passes over columns without a name that hold nothing or count the rows; any other one is refused."""
    kept = []
    for number in rest:
        if head[number] and not head[number].lower().startswith("unnamed:"):
            kept.append(number)
            continue
        found = set(cells[:, number])
        counts = len(found) == len(cells) and all(text.isdecimal() for text in found)
        if found != {""} and not counts and not (number == 0 and all(text.isdecimal() for text in found)):
            raise UserError(f"{source}: column {number + 1} has no name; name it, or take it out")
    return kept


def _splits(column: np.ndarray, name: str, lines: np.ndarray, source: str) -> np.ndarray | None:
    """The parts that a column names, or None where it holds something else."""
    words = {text: split_word(text) if text else "" for text in set(column)}
    if None not in words.values():
        return np.array([words[text] for text in column], dtype=object)
    if set(words.values()) - {None, ""}:
        row = next(row for row, text in enumerate(column) if words[text] is None)
        raise UserError(
            f"{source}, line {lines[row]}, column {name!r}: expected train, valid or test, found {column[row]!r}"
        )
    return None


def _split_lists(
    cells: list[str], task: Task | None, separator: str | None, source: str
) -> tuple[np.ndarray, tuple[str, ...], bool]:
    """Splits cells of several labels; returns multi-hot labels, sorted names, and whether they were lists at all."""
    bracketed = [cell for cell in cells if cell]
    if all(cell[0] + cell[-1] in ("[]", "()", "{}") for cell in bracketed):  # as Python, JSON or PostgreSQL write them
        cells = [re.sub(r"[\[\](){}'\"]", "", cell) for cell in cells]
    whole = set(cells) - {""}
    if separator is None:
        separator = next((mark for mark in ";|," if any(mark in cell for cell in whole)), None)
        if separator is None and task != "single-label" and any(" " in cell for cell in whole):
            # "haze primary" is two tags, "tennis court" is one class: tags recur in many combinations, so there are
            # fewer words than cells; the words of class names hardly recur, so there are more.
            separator = " " if len({word for cell in whole for word in cell.split()}) < len(whole) else None
    if separator:
        logger.info("%s: labels of one image are separated by %r", source, separator)
        rows = [[label for label in map(str.strip, cell.split(separator)) if label] for cell in cells]
    else:
        rows = [[cell] if cell else [] for cell in cells]
    names = tuple(sorted({label for row in rows for label in row}))
    if len(names) * len(rows) > MAX_LABELS:
        raise UserError(
            f"{source}: {len(names)} different labels in {len(rows)} rows are no classes; give a column of labels"
        )
    position = {name: number for number, name in enumerate(names)}
    labels = np.zeros((len(rows), len(names)), dtype=np.uint8)
    for row, found in enumerate(rows):
        labels[row, [position[label] for label in found]] = 1
    return labels, names, separator is not None or (task != "single-label" and not labels.any(axis=1).all())


MAX_LABELS = 2**30
"""Cells of a label matrix, one byte each."""


def names_for(width: int, source: str) -> tuple[str, ...]:
    """Names label columns that the file does not name: by a known set of that many labels, else by number."""
    known: dict[tuple[str, ...], str] = {}
    for entry in CATALOG:
        if entry.task == "multi-label" and len(entry.labels) == width:
            known.setdefault(entry.labels, entry.name)
    if len(known) == 1:
        labels, name = next(iter(known.items()))
        logger.info("%s names no labels; %d columns are taken as those of %s", source, width, name)
        return labels
    logger.warning("%s names no labels; they are called label-1 to label-%d", source, width)
    return tuple(f"label-{number}" for number in range(1, width + 1))
