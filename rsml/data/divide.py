"""Divides a data set on disk into a folder with train, valid and test, or goes on doing so where it was interrupted."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rsml.data.groups import Grouping, duplicate_groups, joined
from rsml.data.parts import canonical_order, divide_samples, parse_shares, split_table, together
from rsml.data.readers import read_samples
from rsml.data.readers.division import DivisionFolder
from rsml.data.readers.label_files import MANIFEST
from rsml.data.samples import Samples
from rsml.tasks import Task
from rsml.utils.errors import UserError

logger = logging.getLogger("rsml")
HOW = ("copy", "link", "table")


def divide(
    source: str | Path,
    dest: str | Path,
    *,
    labels: str | Path | None = None,
    task: Task | None = None,
    shares: Sequence[float] | Mapping[str, float] | None = None,
    seed: int = 0,
    how: str = "copy",
    png: bool = False,
    split_files: Sequence[str | Path] | None = None,
    allow_missing: bool = False,
    groups: str | None = None,
) -> str:
    """Divides a data set into a folder, or finishes doing so, and returns the table of what is where.

    Args:
        source: A folder or label file, as for `read_samples`.
        dest: The folder to write; one that already holds this division is left as it is, another one is refused.
        labels: As for `read_samples`.
        task: As for `read_samples`.
        shares: Percent of train, valid and test (or by name); 70, 10 and 20 if None.
        seed: Another seed gives another division.
        how: `"copy"` the images, `"link"` to them, or write only the `"table"`.
        png: Write the copies as 8-bit RGB PNG.
        split_files: Published files to follow instead of shares.
        allow_missing: As for `read_samples`.
        groups: What must not be divided, besides images with the same pixels: `"column:NAME"` of the label file,
            `"pattern:REGEX"` on the path (its groups, or all that it matches), `"numbers:N"` (runs of N neighbouring
            file numbers), `"found"` (images that show the same ground, or whose borders go on in one another).
    """
    if how not in HOW:
        raise UserError(f"how is {how!r}; expected copy, link or table")
    if png and how != "copy":
        raise UserError(f"--png writes new images; expected --how copy, found --how {how}")
    if split_files and (shares or groups):
        which = "--groups" if groups else "--train, --valid and --test"
        raise UserError(f"--split-files say what is train, valid and test; leave {which} away")
    if seed < 0:
        raise UserError(f"--seed is {seed}; expected 0 or more")
    percent = None if split_files else parse_shares(shares or (70, 10, 20))
    grouping = Grouping.parse(groups) if groups else None
    samples = read_samples(
        source, labels=labels, task=task, splits=split_files, group=grouping.column if grouping else None,
        allow_missing=allow_missing,
    )  # fmt: skip
    parameters: dict[str, Any] = {
        "task": samples.task,
        "fractions": list(percent.values()) if percent else None,
        "seed": None if split_files else seed,
        "split files": [_file_fingerprint(file) for file in split_files] if split_files else None,
        "how": how,
        "png": png,
        "source": source_fingerprint(samples),
    }
    if groups:
        parameters["groups"] = groups
    folder = DivisionFolder(dest, parameters)
    state = folder.state(samples.root)
    if state == "done" and (how == "table" or folder.is_whole()):
        logger.info("%s holds this division already; nothing to do", dest)
        return split_table(folder.read(samples.root))
    if state != "new":
        logger.info("%s: going on with the unfinished division", dest)
    if not split_files and (samples.splits != "").any():
        logger.info("%s is divided already; that division is set aside", source)
    same, kept = folder.noted(samples) or _groups(samples, grouping)
    if percent:
        samples = divide_samples(samples, percent, seed, same if kept is None else kept)
    _report(samples, same)
    written = folder.write(samples, same, kept)
    logger.info("written: %s", Path(dest) / MANIFEST)
    return split_table(written)


def _groups(samples: Samples, grouping: Grouping | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Which images have the same pixels, and which are kept together where more than that is asked for."""
    same = duplicate_groups(samples)
    if grouping is None:
        return same, None
    kept = joined(same, grouping.of(samples))
    sizes = [len(rows) for rows in together(kept)]
    logger.info(
        "%d of %d images are kept together with others, in %d groups of up to %d",
        sum(sizes), len(samples), len(sizes), max(sizes, default=1),
    )  # fmt: skip
    return same, kept


def source_fingerprint(samples: Samples) -> str:
    """Returns 16 hex digits for what is divided: paths, labels, groups, file sizes, in the order of every machine."""
    samples = samples.select(canonical_order(samples.paths))
    digest = hashlib.sha256(samples.with_splits(np.full(len(samples), "")).fingerprint().encode())
    digest.update(" ".join(str(os.stat(file).st_size) for file in samples.files).encode())
    if samples.groups.any():
        digest.update("\n".join(samples.groups).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _file_fingerprint(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _report(samples: Samples, groups: np.ndarray) -> None:
    """Says how many images are pixel-identical, whether their labels agree, and whether a given division parts them."""
    same = together(groups)
    if not same:
        logger.info("no two images have the same pixels")
        return
    shown = ["; ".join(" = ".join(samples.paths[rows]) for rows in same[:3]), "; ..." if len(same) > 3 else ""]
    logger.info(
        "%d images have the pixels of another (%d group%s): %s",
        sum(map(len, same)), len(same), "s" * (len(same) > 1), "".join(shown),
    )  # fmt: skip
    parted = [rows for rows in same if len(set(samples.splits[rows]) - {""}) > 1]
    if parted:
        logger.warning(
            "%d of these groups on two sides of the given division (such as %s): its results are not clean",
            len(parted), " = ".join(samples.paths[parted[0]]),
        )  # fmt: skip
    else:
        logger.info("images with the same pixels lie on one side")
    differ = [rows for rows in same if len(np.unique(samples.labels[rows], axis=0)) > 1]
    if differ:
        logger.warning(
            "%d of these groups with different labels for the same pixels (such as %s)",
            len(differ), " and ".join(samples.paths[differ[0]]),
        )  # fmt: skip
