"""The table that every reader yields and everything else takes: path, labels, scene, split."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from rsml.data.tables import binary_values, read_cells, share_values
from rsml.tasks import Task
from rsml.utils.errors import UserError
from rsml.utils.files import replacing

TASKS: tuple[Task, ...] = get_args(Task)
SPLITS = ("train", "valid", "test")
MAX_NAME, MAX_PATH = 200, 4096
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
        groups: `(samples,)` str: what must not be divided, from a column that was asked for; `""` for an image on its
            own. All `""` by default; no part of the fingerprint, nor of what is written.

    Examples:
        >>> samples = read_samples("UCMerced_LandUse")
        >>> train = divide(samples, (70, 10, 20), seed=0).part("train")
        >>> train.files[0], train.labels[0]
    """

    paths: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]
    task: Task
    root: Path
    # None stands for nothing but empty cells; a table that is made has all three.
    scenes: np.ndarray = None  # type: ignore[assignment]
    splits: np.ndarray = None  # type: ignore[assignment]
    groups: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        paths = _text(self.paths, MAX_PATH)
        empty = np.full(len(paths), "", dtype=np.str_)
        columns = {
            "paths": paths,
            "labels": np.asarray(self.labels, dtype=np.float32 if self.task == "proportions" else np.uint8),
            "label_names": tuple(self.label_names),
            "root": Path(self.root),
            "scenes": empty if self.scenes is None else _text(self.scenes, MAX_NAME),
            "splits": empty if self.splits is None else np.asarray(self.splits, dtype=np.str_),
            "groups": empty if self.groups is None else _text(self.groups, MAX_PATH),
        }
        for name, value in columns.items():
            object.__setattr__(self, name, value)
        if self.labels.shape != (len(paths), len(self.label_names)):
            raise ValueError(
                f"labels have shape {self.labels.shape}; {len(paths)} paths and {len(self.label_names)} label names "
                f"need ({len(paths)}, {len(self.label_names)})"
            )
        for name in ("scenes", "splits", "groups"):
            if getattr(self, name).shape != paths.shape:
                raise ValueError(f"{name} have shape {getattr(self, name).shape}; {len(paths)} paths need one each")
        check_task(self.task)
        check_label_names(self.label_names, self.root)
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
        return np.equal.outer(self.classes, np.arange(len(self.label_names))).astype(np.uint8)

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
            groups=self.groups[indices],
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
        table = read_cells(path, "a table with columns path, scene, split, labels", ours=True)
        head = table.rows[0]
        if tuple(head[:3]) != _COLUMNS:
            raise UserError(f"{path}: its first columns are {head[:3]}; expected path, scene, split")
        cells = table.below()
        values = share_values if task == "proportions" else binary_values
        return cls(
            paths=cells[:, 0],
            labels=values(cells[:, 3:], head[3:], cells[:, 0], table.lines[1:], table.source),
            label_names=tuple(head[3:]),
            task=task,
            root=Path(root),
            scenes=cells[:, 1],
            splits=cells[:, 2],
        )


def check_task(task: str) -> None:
    """Refuses a task that there is not."""
    if task not in TASKS:
        raise UserError(f"task is {task!r}; expected multi-label, single-label or proportions")


def _text(column: Sequence[str] | np.ndarray, most: int) -> np.ndarray:
    """A column as numpy keeps it: every cell as wide as the widest, which therefore has a bound."""
    if isinstance(column, np.ndarray) and column.dtype.kind == "U":
        return column
    longest = max(column, key=len, default="")
    if len(longest) > most:
        raise UserError(f"{longest[:40]!r}...: {len(longest)} letters; expected at most {most}; shorten it")
    return np.asarray(column, dtype=np.str_)


def check_label_names(names: Sequence[str], source: str | Path = "labels") -> None:
    """Refuses names that no folder, table or figure can hold: empty, `.`, `..`, control characters, no text, too long.

    Separators are no fault: `road/rail` is a label, and its folder is called `road_rail`.
    """
    for name in names:
        wrong = [letter for letter in name if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")]
        if not name.strip() or name in (".", "..") or wrong or len(name) > MAX_NAME:
            found = f"a character that is no text ({wrong[0]!r}) in it" if wrong else "that name"
            found = f"{len(name)} letters" if len(name) > MAX_NAME else found
            raise UserError(f"{source}: label {name[:40]!r}: expected words, found {found}; rename the label")
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise UserError(f"{source}: label {twice!r} is named twice; name every label once")
