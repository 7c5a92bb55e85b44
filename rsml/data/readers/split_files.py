"""Published split files: which image is in which part; labels for images that have no other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rsml.data.image_index import ImageIndex
from rsml.data.readers.joining import join
from rsml.data.readers.label_tables import Asked, LabelFile, LabelTable, join_tables
from rsml.data.readers.request import Reader, Request, open_label_file
from rsml.data.samples import SPLITS, Samples
from rsml.data.spelling import match_label
from rsml.utils.errors import UserError

logger = logging.getLogger("rsml")


class _Joined:
    """Several split files as one label file."""

    def __init__(self, tables: Sequence[LabelTable]) -> None:
        self._table = join_tables(tables)

    def names(self) -> list[str]:
        """See `LabelFile`."""
        return self._table.names

    def table(self, asked: Asked) -> LabelTable:
        """See `LabelFile`."""
        return self._table


def _read(request: Request) -> Samples:
    return join(request, Path(request.parts[0].source), _Joined(request.parts), request.source, whole=False)


SPLIT_FILES = Reader(
    "images whose labels stand in the split files",
    lambda request: bool(request.parts) and request.task == "multi-label",
    _read,
)


def read_split_files(files: Sequence[str | Path]) -> list[LabelFile]:
    """Reads two or three split files, each once."""
    if len(files) not in (2, 3):
        raise UserError(f"{len(files)} split files given; expected three (train, valid, test) or two (train, test)")
    return [open_label_file(file) for file in files]


def apply_split_files(samples: Samples, *files: str | Path) -> Samples:
    """Divides samples as published split files do; images that no file names get no split.

    Args:
        samples: The images and their labels.
        files: Train, valid and test, or train and test. Each names images in its first column, in any form that
            `read_samples` understands; labels in it are compared with those of `samples`.
    """
    return apply_splits(samples, files, read_split_files(files))


def apply_splits(samples: Samples, files: Sequence[str | Path], contents: Sequence[LabelFile]) -> Samples:
    """`apply_split_files` for files already read."""
    index = ImageIndex(samples.root, samples.paths.tolist())
    splits = np.full(len(samples), "", dtype="<U5")
    owner: dict[int, str | Path] = {}
    sides = SPLITS if len(files) == 3 else ("train", "test")
    for side, file, content in zip(sides, files, contents, strict=True):
        table = content.table(Asked(is_image=lambda cell: index.find(cell) is not None))
        found = [index.find(name, str(file)) for name in table.names]
        missing = [name for name, row in zip(table.names, found, strict=True) if row is None]
        if missing:
            raise UserError(
                f"{file}: {len(missing)} of its {len(found)} images (such as {missing[0]!r}) are not among the "
                f"{len(samples)} of {samples.root}; give the whole set that these files divide"
            )
        rows = [row for row in found if row is not None]
        for line, row in zip(table.lines, rows, strict=True):
            if owner.setdefault(row, file) != file:
                raise UserError(
                    f"{file}, line {line}: {samples.paths[row]} is in {owner[row]} too; expected it on one side only; "
                    "mend the split files"
                )
        repeated = len(rows) - len(set(rows))
        if repeated:
            logger.warning("%s names %d images twice; each is taken once", file, repeated)
        _compare_labels(samples, np.array(rows), table, file)
        splits[rows] = side
    left = int((splits == "").sum())
    if left:
        first = samples.paths[splits == ""][0]
        logger.warning("%d of %d images (such as %s) are in no split file and stay out", left, len(samples), first)
    return samples.with_splits(splits)


def _compare_labels(samples: Samples, rows: np.ndarray, table: LabelTable, file: str | Path) -> None:
    """Says where a split file has other labels than the samples; the samples' hold."""
    if table.labels is None:
        return
    matched = [match_label(name, samples.label_names) for name in table.label_names]
    if None in matched:
        if samples.task == "single-label" or table.task == "multi-label":
            unknown = table.label_names[matched.index(None)]
            logger.warning("%s: its label %r is unknown to %s; labels are not compared", file, unknown, samples.root)
        return
    columns = [samples.label_names.index(name) for name in matched if name is not None]
    theirs = np.zeros((len(rows), len(samples.label_names)), dtype=np.uint8)
    theirs[:, columns] = table.labels
    differ = (samples.labels[rows] != theirs).any(axis=1)
    if differ.any():
        logger.warning(
            "%s: the labels of %d of %d images (such as %s) differ from those read with the images, which are used",
            file, int(differ.sum()), len(rows), table.names[int(np.argmax(differ))],
        )  # fmt: skip
