"""Images with their labels, whatever lies on disk: one explicit reader a format, tried in a stated order."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from rsml.data import catalog
from rsml.data.readers.class_folders import CLASS_FOLDERS
from rsml.data.readers.division import DIVISION
from rsml.data.readers.label_files import AID_AND_DFC15, GIVEN, ONLY_TABLE, OURS, UC_MERCED
from rsml.data.readers.label_tables import Asked
from rsml.data.readers.request import Reader, Request
from rsml.data.readers.shares import SHARES
from rsml.data.readers.split_files import SPLIT_FILES, apply_split_files, apply_splits, read_split_files
from rsml.data.samples import Samples, check_task
from rsml.tasks import Task
from rsml.utils.errors import UserError

__all__ = ["READERS", "Reader", "apply_split_files", "read_samples"]
logger = logging.getLogger("rsml")

READERS: tuple[Reader, ...] = (
    DIVISION,
    SHARES,
    GIVEN,
    OURS,
    UC_MERCED,
    AID_AND_DFC15,
    ONLY_TABLE,
    SPLIT_FILES,
    CLASS_FOLDERS,
)
"""All formats, in the order in which they are asked whether they can read a source (the table in docs/data.md)."""


def read_samples(
    source: str | Path,
    *,
    labels: str | Path | None = None,
    task: Task | None = None,
    splits: Sequence[str | Path] | None = None,
    separator: str | None = None,
    group: str | None = None,
    allow_missing: bool = False,
) -> Samples:
    """Reads images and labels from a folder or a label file, whatever their layout (`docs/data.md` lists them all).

    The first of `READERS` that can read the source does, and is named in the log.

    Args:
        source: A folder of images, or a label file whose images lie beside or below it.
        labels: A label file that is not in its usual place in `source`.
        task: `"multi-label"`, `"single-label"` or `"proportions"`; None takes what the files say. A multi-label set
            with known scenes read as single-label has its scenes as classes.
        splits: Published split files: train, valid and test, or train and test.
        separator: What separates several labels in one cell; found from the file if None.
        group: A column of the label file that says which images belong together; it becomes `Samples.groups`.
        allow_missing: Use the images that have both an image file and labels, instead of refusing the rest.
    """
    source = Path(source)
    if task is not None:
        check_task(task)
    if not os.path.exists(source):
        raise UserError(_not_there(source))
    contents = read_split_files(splits) if splits else []
    parts = tuple(content.table(Asked()) for content in contents)
    if parts and task is None and labels is None:
        task = parts[0].task
    request = Request(source, None if labels is None else Path(labels), task, separator, group, allow_missing, parts)
    reader = next(reader for reader in READERS if reader.can_read(request))
    logger.info("reading %s as %s", source, reader.name)
    samples = reader.read(request)
    if splits and samples.task == "proportions":
        raise UserError(f"{source}: its column split already names the parts; leave out the split files")
    return apply_splits(samples, splits, contents) if splits else samples


def _not_there(source: Path) -> str:
    names = {folder.lower(): known for known in catalog.CATALOG for folder in known.folders}
    known = names.get(source.name.lower())
    hint = f"; for {known.name}, {catalog.how_to_get(known)}" if known else ""
    return f"{source}: no such file or folder (looked in {Path.cwd()})" + (hint or "; expected a folder of images")
