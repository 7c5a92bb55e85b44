"""The table that every reader yields and everything else takes: path, labels, scene, split."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from rsml.data.options import Task
from rsml.utils.errors import UserError
from rsml.utils.files import replacing

TASKS: tuple[Task, ...] = get_args(Task)
SPLITS = ("train", "valid", "test")
_COLUMNS = ("path", "scene", "split")
_TOLERANCE = 1e-3
"""How far the shares of an image may be from a sum of one: what their rounding in a table leaves."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Images with their labels, one row an image.

    Args:
        paths: `(samples,)` str: relative to `root` in posix style, or absolute for an image outside it.
        labels: `(samples, labels)`: uint8 of 0 and 1, one-hot for a single-label task; for proportions float32 shares
            that sum to one.
        label_names: the names of the columns of `labels`.
        task: `"multi-label"`, `"single-label"` or `"proportions"`.
        root: the folder that relative paths start from.
        scenes: `(samples,)` str: the scene class of each image where it is known, else `""`. All `""` by default.
        splits: `(samples,)` str: `"train"`, `"valid"`, `"test"`, or `""` for not divided. All `""` by default.

    Example:
        >>> samples = read_samples("UCMerced_LandUse")
        >>> train = divide(samples, (70, 10, 20), seed=0).part("train")
        >>> train.files[0], train.labels[0]
    """

    paths: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    task: Task
    root: Path
    scenes: np.ndarray | None = None
    splits: np.ndarray | None = None

    def __post_init__(self):
        paths = np.asarray(self.paths, dtype=np.str_)
        empty = np.full(len(paths), "", dtype=np.str_)
        columns = {
            "paths": paths,
            "labels": np.asarray(self.labels, dtype=np.float32 if self.task == "proportions" else np.uint8),
            "label_names": tuple(self.label_names),
            "root": Path(self.root),
            "scenes": empty if self.scenes is None else np.asarray(self.scenes, dtype=np.str_),
            "splits": empty if self.splits is None else np.asarray(self.splits, dtype=np.str_),
        }
        for name, value in columns.items():
            object.__setattr__(self, name, value)
        if self.labels.shape != (len(paths), len(self.label_names)):
            raise ValueError(
                f"labels have shape {self.labels.shape}; {len(paths)} paths and {len(self.label_names)} label names "
                f"need ({len(paths)}, {len(self.label_names)})"
            )
        for name in ("scenes", "splits"):
            if getattr(self, name).shape != paths.shape:
                raise ValueError(f"{name} have shape {getattr(self, name).shape}; {len(paths)} paths need one each")
        check_task(self.task)
        if len(set(self.label_names)) != len(self.label_names):
            twice = sorted({name for name in self.label_names if self.label_names.count(name) > 1})
            raise UserError(f"label {twice[0]!r} is named twice; name every label once")
        unknown = set(np.unique(self.splits)) - {*SPLITS, ""}
        if unknown:
            raise UserError(f"split {min(unknown)!r} is unknown; expected train, valid, test or nothing")
        if self.task == "proportions":
            self._check_shares()

    def _check_shares(self) -> None:
        sums = self.labels.sum(axis=1, dtype=np.float64)
        # Written so that a NaN is a fault too.
        bad = np.flatnonzero(~((self.labels >= 0).all(axis=1) & (np.abs(sums - 1) <= _TOLERANCE)))
        if len(bad):
            row = int(bad[0])
            more = f" ({len(bad)} such images)" if len(bad) > 1 else ""
            raise UserError(
                f"{self.paths[row]}: its {len(self.label_names)} shares sum to {sums[row]:.4g} and the least is "
                f"{self.labels[row].min(initial=0):.4g}; expected none below 0 and a sum of 1{more}; mend the table"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        counts = {side: int((self.splits == side).sum()) for side in SPLITS}
        sides = "".join(f", {side} {count}" for side, count in counts.items() if count)
        return (
            f"Samples({len(self)} images, {len(self.label_names)} labels, {self.task}, root={str(self.root)!r}{sides})"
        )

    @property
    def files(self) -> np.ndarray:
        """`(samples,)` str: where each image lies, root included."""
        root = str(self.root)
        return np.array([os.path.join(root, path) for path in self.paths.tolist()], dtype=np.str_)

    @property
    def classes(self) -> np.ndarray:
        """`(samples,)` int64: the class of each image, or that of the greatest share; not for a multi-label task."""
        return self.labels.argmax(axis=1).astype(np.int64) if len(self) else np.zeros(0, np.int64)

    @property
    def present(self) -> np.ndarray:
        """`(samples, labels)` uint8: 1 for the labels an image counts for; for proportions its dominant class alone."""
        if self.task != "proportions":
            return self.labels
        return (self.classes[:, None] == np.arange(len(self.label_names))).astype(np.uint8)

    def by_dominant_class(self) -> Samples:
        """Returns shares as a single-label task, the class of the greatest share; other tasks as they are."""
        if self.task != "proportions":
            return self
        return replace(self, labels=self.present, task="single-label")

    def part(self, split: str) -> Samples:
        """Returns the rows of one split, in order; none where there are none."""
        if split not in SPLITS:
            raise UserError(f"split {split!r} is unknown; expected train, valid or test")
        return self.select(np.flatnonzero(self.splits == split))

    def select(self, indices: Sequence[int] | np.ndarray) -> Samples:
        """Returns the given rows (indices or a mask), in the given order."""
        indices = np.asarray(indices)
        if indices.dtype != bool:
            indices = indices.astype(np.int64)
        return replace(
            self,
            paths=self.paths[indices],
            labels=self.labels[indices],
            scenes=self.scenes[indices],
            splits=self.splits[indices],
        )

    def with_splits(self, splits: Sequence[str] | np.ndarray) -> Samples:
        """Returns the same rows with another division."""
        return replace(self, splits=np.asarray(splits, dtype=np.str_))

    def fingerprint(self) -> str:
        """Returns 16 hex digits that change with any path, label, name, scene, split, the task, or the order.

        The root is left out: the same data set in another place has the same fingerprint.
        """
        digest = hashlib.sha256()
        for column in (self.paths, self.scenes, self.splits, self.label_names):
            digest.update("\n".join(map(str, column)).encode("utf-8", "surrogateescape") + b"\0")
        digest.update(np.ascontiguousarray(self.labels).tobytes() + self.task.encode())
        return digest.hexdigest()[:16]

    def frame(self) -> pd.DataFrame:
        """Returns a table with columns path, scene, split, then one column per label: 0 or 1, or its share."""
        taken = set(_COLUMNS) & set(self.label_names)
        if taken:
            raise UserError(f"label {min(taken)!r} has the name of a column of the table; rename it")
        head = pd.DataFrame({"path": self.paths, "scene": self.scenes, "split": self.splits}, dtype=object)
        return pd.concat([head, pd.DataFrame(self.labels, columns=list(self.label_names))], axis=1)

    def write_csv(self, path: str | Path) -> None:
        """Writes the table as CSV, whole or not at all."""
        with (
            replacing(path) as beside,
            open(beside, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            self.frame().to_csv(file, index=False, lineterminator="\n")

    @classmethod
    def read_csv(cls, path: str | Path, root: str | Path, task: Task) -> Samples:
        """Reads back what `write_csv` wrote. Images are not looked for; `read_samples` does that."""
        path = Path(path)
        table = read_table(path, "a table with columns path, scene, split, labels")
        if tuple(table.columns[:3]) != _COLUMNS:
            raise UserError(f"{path}: its first columns are {list(table.columns[:3])}; expected path, scene, split")
        names = tuple(table.columns[3:])
        return cls(
            paths=table["path"].to_numpy(),
            labels=label_columns(task)(table, names, str(path)),
            label_names=names,
            task=task,
            root=Path(root),
            scenes=table["scene"].to_numpy(),
            splits=table["split"].to_numpy(),
        )


def read_table(path: Path, expected: str) -> pd.DataFrame:
    """Reads a CSV table that rsml wrote, all cells as text; `expected` says what it should be."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return pd.read_csv(file, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected {expected}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as fault:
        raise UserError(f"{path}: not a CSV table ({str(fault).strip()}); write it again") from None


def check_task(task: str) -> None:
    """Refuses a task that there is not."""
    if task not in TASKS:
        raise UserError(f"task is {task!r}; expected multi-label, single-label or proportions")


def label_columns(task: Task) -> Callable[..., np.ndarray]:
    """Returns what turns the label columns of a table into the labels of a task."""
    return share_columns if task == "proportions" else binary_columns


def share_columns(
    table: pd.DataFrame, names: Sequence[str], source: str, lines: np.ndarray | None = None
) -> np.ndarray:
    """Turns columns of shares as text into a `(rows, names)` float32 array, or names the first cell that is no share.

    Args:
        table: all cells as text; the first column names the image.
        names: the label columns.
        source: the file, for the message.
        lines: as for `binary_columns`.
    """
    cells = table[list(names)].to_numpy(dtype=object)
    values = pd.to_numeric(pd.Series(cells.ravel(), dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    values = values.reshape(cells.shape)
    _refuse_cells(~((values >= 0) & (values <= 1 + _TOLERANCE)), "a share from 0 to 1", table, names, source, lines)
    return values.astype(np.float32)


def binary_columns(
    table: pd.DataFrame, names: Sequence[str], source: str, lines: np.ndarray | None = None
) -> np.ndarray:
    """Turns label columns of text into a `(rows, names)` uint8 array, or names the first cell that is not 0 or 1.

    Args:
        table: all cells as text; the first column names the image.
        names: the label columns.
        source: the file, for the message.
        lines: `(rows,)` the line of the file that each row stands on; from 2 on, after a header, if None.
    """
    cells = table[list(names)].to_numpy(dtype=object)
    values = pd.Series(cells.ravel(), dtype=object).map(_BINARY).to_numpy(dtype=np.float64).reshape(cells.shape)
    _refuse_cells(np.isnan(values), "0 or 1", table, names, source, lines)
    return values.astype(np.uint8)


def _refuse_cells(
    wrong: np.ndarray,
    expected: str,
    table: pd.DataFrame,
    names: Sequence[str],
    source: str,
    lines: np.ndarray | None,
) -> None:
    bad = np.argwhere(wrong)
    if len(bad):
        row, column = bad[0]
        line = row + 2 if lines is None else lines[row]
        more = f" ({len(bad)} such cells)" if len(bad) > 1 else ""
        raise UserError(
            f"{source}, line {line} ({table.iloc[row, 0]}), column {names[column]!r}: expected {expected}, found "
            f"{table[names[column]].iloc[row]!r}{more}; mend the label file"
        )


_BINARY = {text: value for value, texts in ((0, "0 0.0 false False"), (1, "1 1.0 true True")) for text in texts.split()}
