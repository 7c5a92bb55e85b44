"""Label files as they are published (CSV, tab-separated text, `.npy` dictionaries), read into one plain table."""

from __future__ import annotations

import csv
import io
import logging
import pickle
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from rsml.data.catalog import CATALOG
from rsml.data.image_index import is_image_name
from rsml.data.samples import Task, binary_columns
from rsml.utils.errors import UserError

logger = logging.getLogger("rsml")

# Column names, in lower case without anything but letters; the first that is there wins.
_PATH = ("path", "imagepath", "filepath", "filename", "imagefile", "file", "imagename", "image", "img", "imagelabel",
         "name", "imageid", "id")  # fmt: skip
_SPLIT = ("split", "subset", "partition", "set", "part")
_SCENE = ("scene", "sceneclass", "scenelabel")
_LABELS = ("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "classname")
_SPLIT_WORDS = {
    word: split
    for split, words in {
        "train": "train training tr",
        "valid": "valid val validation dev",
        "test": "test testing te ts",
    }.items()
    for word in words.split()
}


@dataclass(frozen=True)
class LabelTable:
    """What one label file says, before any image is looked for.

    Args:
        source: the file, for messages.
        names: `(rows,)` the images as the file writes them.
        lines: `(rows,)` the line of each row (for `.npy`: its number in the dictionary).
        labels: `(rows, labels)` uint8, or None when the file only lists images.
        label_names: as the file writes them.
        scenes: `(rows,)` or None.
        splits: `(rows,)` of `train`, `valid`, `test`, `""`, or None.
        task: what the file settles by its form, or None.
    """

    source: str
    names: list[str]
    lines: np.ndarray
    labels: np.ndarray | None
    label_names: tuple[str, ...]
    scenes: np.ndarray | None
    splits: np.ndarray | None
    task: Task | None


def join_tables(tables: Sequence[LabelTable]) -> LabelTable:
    """Puts the rows of several label files with the same labels under one another."""
    first = tables[0]
    for table in tables[1:]:
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


def read_label_file(
    path: str | Path,
    *,
    task: Task | None = None,
    separator: str | None = None,
    is_image: Callable[[str], bool] = is_image_name,
) -> LabelTable:
    """Reads a label file of any form that `docs/data.md` lists.

    Args:
        path: a `.csv`, `.tsv`, `.txt` or `.npy` file.
        task: `"single-label"` keeps a label such as `tennis court` whole.
        separator: what separates the labels of one cell; found from the file if None.
        is_image: tells whether a cell names an image; a first row whose first cell does is no header.
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; expected a label file")
    if path.suffix.lower() == ".npy":
        return _read_npy(path)
    table, header = _read_text(path, is_image)
    lines = table.index.to_numpy()
    columns = list(table.columns)
    plain = {column: re.sub(r"[^a-z]", "", column.lower()) for column in columns}

    def named(words: Sequence[str]) -> str | None:
        return next((column for word in words for column in columns if plain[column] == word), None)

    image = (named(_PATH) if header else None) or columns[0]
    rest = [column for column in columns if column != image]
    # A pandas index that was saved along, and the empty column after a trailing comma, hold no labels.
    rest = [c for c in rest if plain[c] and not plain[c].startswith("unnamed")] if header else rest
    split, scene = named(_SPLIT), named(_SCENE)
    splits = scenes = None
    if header and split in rest:
        words = {text: split_word(text) if text else "" for text in table[split].unique()}
        if None not in words.values():
            splits = table[split].map(words).to_numpy(dtype=object)
            rest.remove(split)
        elif set(words.values()) - {None}:
            row = next(row for row, text in enumerate(table[split]) if words[text] is None)
            raise UserError(
                f"{path}, line {lines[row]}, column {split!r}: expected train, valid or test, found "
                f"{table[split].iloc[row]!r}"
            )
    if header and scene in rest and not set(table[scene].unique()) & {"0", "1"}:
        scenes = table[scene].to_numpy(dtype=object)
        rest.remove(scene)
    names = table[image].tolist()
    settled = {"source": str(path), "names": names, "lines": lines, "scenes": scenes, "splits": splits}
    if not rest:
        return LabelTable(**settled, labels=None, label_names=(), task=None)

    lists = next((c for word in _LABELS for c in rest if header and plain[c] == word), None)
    if lists is None and len(rest) == 1:
        lists = rest[0]
    if lists is not None and not _all_binary(table[lists]):
        ignored = [column for column in rest if column != lists]
        if ignored:
            logger.info("%s: labels are read from column %r; ignored: %s", path, lists, ", ".join(map(repr, ignored)))
        labels, label_names, several = _split_lists(table[lists], task, separator, str(path))
        plural = plain[lists] in ("labels", "tags", "classes", "categories") if header else False
        form = "multi-label" if several or (plural and task != "single-label") else "single-label"
        return LabelTable(**settled, labels=labels, label_names=label_names, task=form)
    if not header:
        label_names = _names_for(len(rest), str(path))
        table = table.rename(columns=dict(zip(rest, label_names, strict=True)))
        rest = list(label_names)
    labels = binary_columns(table[[image, *rest]], rest, str(path), lines)
    one_hot = bool((labels.sum(axis=1) == 1).all())
    return LabelTable(**settled, labels=labels, label_names=tuple(rest), task=None if one_hot else "multi-label")


def _read_text(path: Path, is_image: Callable[[str], bool]) -> tuple[pd.DataFrame, bool]:
    """Reads delimited text; returns all cells as text, indexed by line, and whether there was a header."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save the label file as UTF-8") from None
    first = next((line for line in text.splitlines() if line.strip()), None)
    if first is None:
        raise UserError(f"{path}: the file is empty; expected a header and one row an image")
    delimiter = next((mark for mark in "\t,;|" if mark in first), ",")
    header = not is_image(first.split(delimiter)[0].strip().strip('"'))
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        found = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as fault:
        raise UserError(f"{path}, line {reader.line_num}: {fault}; mend the label file") from None
    found = [(line, row) for line, row in found if any(row)]
    lines, rows = [line for line, _ in found], [row for _, row in found]
    head = rows.pop(0) if header else [f"column {number}" for number in range(1, len(rows[0]) + 1)]
    lines = lines[1:] if header else lines
    twice = [name for name in head if name and head.count(name) > 1]
    if twice:
        raise UserError(f"{path}: two columns are named {twice[0]!r}; name every column once")
    if not rows:
        raise UserError(f"{path}: a header but no rows; expected one row an image")
    uneven = next((number for number, row in enumerate(rows) if len(row) != len(head)), None)
    if uneven is not None:
        raise UserError(
            f"{path}, line {lines[uneven]}: expected {len(head)} cells, found {len(rows[uneven])}; mend the label file"
        )
    table = pd.DataFrame(rows, index=np.array(lines), columns=range(len(head)), dtype=object)
    kept = [number for number, name in enumerate(head) if name or (table[number] != "").any()]
    table = table[kept]
    table.columns = [head[number] or f"unnamed {number}" for number in kept]
    return table, header


def _all_binary(column: pd.Series) -> bool:
    return set(column.unique()) <= {"0", "1", "0.0", "1.0", ""}


def _split_lists(
    column: pd.Series, task: Task | None, separator: str | None, source: str
) -> tuple[np.ndarray, tuple[str, ...], bool]:
    """Splits cells of several labels; returns multi-hot labels, sorted names, and whether they were lists at all."""
    cells = column
    if cells.str.fullmatch(r"\[.*\]|\(.*\)|\{.*\}|").all():  # lists as Python, JSON or PostgreSQL write them
        cells = cells.str.replace(r"[\[\](){}'\"]", "", regex=True)
    if separator is None:
        everything = "\n".join(cells.unique())
        separator = next((mark for mark in ";|," if mark in everything), None)
        if separator is None and task != "single-label" and " " in everything:
            # "haze primary" is two tags, "tennis court" is one class: tags recur in many combinations, so there are
            # fewer words than cells; the words of class names hardly recur, so there are more.
            whole = set(cells.unique()) - {""}
            separator = " " if len({word for cell in whole for word in cell.split()}) < len(whole) else None
    if separator:
        logger.info("%s: labels of one image are separated by %r", source, separator)
        rows = [[label for label in map(str.strip, cell.split(separator)) if label] for cell in cells]
    else:
        rows = [[cell] if cell else [] for cell in cells]
    names = tuple(sorted({label for row in rows for label in row}))
    position = {name: number for number, name in enumerate(names)}
    labels = np.zeros((len(rows), len(names)), dtype=np.uint8)
    at = [(row, position[label]) for row, found in enumerate(rows) for label in found]
    if at:
        labels[tuple(np.array(at).T)] = 1
    return labels, names, separator is not None or bool((labels.sum(axis=1) == 0).any() and task != "single-label")


def _names_for(width: int, source: str) -> tuple[str, ...]:
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


def _read_npy(path: Path) -> LabelTable:
    """Reads the GRN authors' dictionary: `{"nm2label": {image name: multi-hot array}}`, or the inner one alone."""
    found = _unpickle_npy(path)
    tables = [found, *found.values()] if isinstance(found, dict) else []
    table = next((t for t in tables if isinstance(t, dict) and t and all(_is_row(v) for v in t.values())), None)
    if table is None or not all(isinstance(name, (str, bytes)) for name in table):
        raise UserError(f"{path}: expected a dictionary of image name -> multi-hot array, found {_describe(found)}")
    names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in table]
    rows = [np.asarray(value).ravel() for value in table.values()]
    for name, row in zip(names, rows, strict=True):
        if len(row) != len(rows[0]):
            raise UserError(f"{path}: {name} has {len(row)} labels, {names[0]} has {len(rows[0])}; expected the same")
    values = np.stack(rows)
    label_names = _names_for(values.shape[1], str(path))
    bad = np.argwhere((values != 0) & (values != 1))
    if len(bad):
        row, column = bad[0]
        raise UserError(
            f"{path}: {names[row]}, label {label_names[column]!r}: expected 0 or 1, found {values[row, column]}"
        )
    return LabelTable(
        source=str(path),
        names=names,
        lines=np.arange(1, len(names) + 1),
        labels=values.astype(np.uint8),
        label_names=label_names,
        scenes=None,
        splits=None,
        task="multi-label",
    )


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


def _unpickle_npy(path: Path) -> object:
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(file)
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

    def find_class(self, module: str, name: str):
        allowed = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if allowed is None:
            raise _RefusedError(f"{module}.{name}")
        return allowed


def _array(kind, shape, code):
    if kind is not np.ndarray:
        raise _RefusedError(repr(kind))
    return np.ndarray(0, np.int8)  # The state that follows in the pickle gives shape, type and content.


def _scalar(dtype, data):
    if dtype.hasobject:
        raise _RefusedError("a numpy scalar that holds objects")
    return np.frombuffer(data, dtype)[0]


def _latin1_bytes(text, encoding):
    # How Python 2 and protocol 2 write bytes. Other codecs could be asked to unpack bombs.
    if encoding != "latin1":
        raise _RefusedError(f"codec {encoding}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1_bytes,
    ("collections", "defaultdict"): defaultdict,
    ("collections", "OrderedDict"): OrderedDict,
    **{("builtins", kind.__name__): kind for kind in (dict, list, tuple, set, frozenset, int, float, bool, str, bytes)},
}
