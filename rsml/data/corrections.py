"""Corrected labels: the journal that the page of `rsml app` keeps, read back and laid over a table of samples."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rsml.data.samples import Samples
from rsml.data.spelling import match_label
from rsml.utils.errors import UserError

logger = logging.getLogger("rsml")
FORMAT = 1


@dataclass(frozen=True)
class Decision:
    """What a person decided about one image.

    Attributes:
        id: Tells it from all others of the journal.
        path: The image, as the samples name it.
        labels: Names of the labels that are right; None where it was passed over.
        note: A remark.
        by: Who.
        at: When, in ISO 8601.
    """

    id: str
    path: str
    labels: tuple[str, ...] | None
    note: str = ""
    by: str = ""
    at: str = ""


@dataclass
class Decisions:
    """A journal as far as it is read.

    Attributes:
        head: Its first line: whose images these are.
        stacks: The decisions about each image that were not taken back, the valid one last.
        versions: The last line about each image, a taking back included.
    """

    head: dict[str, Any] = field(default_factory=dict)
    stacks: dict[str, list[Decision]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        """Follows one line more."""
        if "journal" in line:
            self.head = line
            return
        path, stack = line["path"], self.stacks.setdefault(line["path"], [])
        self.versions[path] = line["id"]
        if "undo" in line:
            stack[:] = [one for one in stack if one.id != line["undo"]]
        else:
            labels = None if line["labels"] is None else tuple(line["labels"])
            stack.append(Decision(line["id"], path, labels, line.get("note", ""), line.get("by", ""), line["at"]))

    def current(self) -> dict[str, Decision]:
        """The decision about each image that holds."""
        return {path: stack[-1] for path, stack in self.stacks.items() if stack}


def lines_of(data: bytes, source: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal; one that a power cut left half written is passed over."""
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            try:
                found = json.loads(line)
                if not isinstance(found, dict) or not ("journal" in found or {"path", "id"} <= found.keys()):
                    raise ValueError("no line of a journal")
                yield found
            except ValueError:
                logger.warning("%s, line %d: not whole; passed over", source, number)


def read_decisions(file: str | Path) -> Decisions:
    """Reads a journal.

    Args:
        file: The journal, `RUN/app/journal.jsonl`.
    """
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise UserError(
            f"{file}: journal not readable ({error.strerror}); give the journal.jsonl that `rsml app` keeps"
        ) from None
    found = Decisions()
    for line in lines_of(data, file):
        found.take(line)
    if found.head.get("journal") != FORMAT:
        raise UserError(f"{file}: not a journal of corrections; give the journal.jsonl that `rsml app` keeps")
    return found


def with_corrections(samples: Samples, file: str | Path) -> Samples:
    """The samples with the labels that a journal decides in place of their own.

    Args:
        samples: Multi-label or single-label.
        file: The journal.
    """
    found = read_decisions(file)
    decided = {path: one.labels for path, one in found.current().items() if one.labels is not None}
    if samples.task == "proportions":
        raise UserError(f"{file}: corrects labels, but the data are shares of land cover; leave the journal out")
    row_of = {os.path.abspath(path): row for row, path in enumerate(samples.files.tolist())}
    by_path = {path: row for row, path in enumerate(samples.paths.tolist())}
    root, labels, missing, changed = found.head.get("root", ""), samples.labels.copy(), 0, 0
    for path, names in decided.items():
        row = row_of.get(os.path.abspath(os.path.join(root, path)), by_path.get(path))
        if row is None:
            missing += 1
            continue
        columns = [_column(name, samples, file) for name in names]
        if samples.task == "single-label" and len(columns) != 1:
            raise UserError(f"{file}: {path} has {len(columns)} labels; expected one, of single-label data")
        before = labels[row].copy()
        labels[row] = 0
        labels[row, columns] = 1
        changed += bool((labels[row] != before).any())
    if decided and missing == len(decided):
        raise UserError(f"{file}: none of its {missing} images is in {samples.root}; give the data that it corrects")
    left_out = f", {missing} not among these data" if missing else ""
    logger.info("%s: %d images looked at, %d with other labels%s", file, len(decided), changed, left_out)
    return replace(samples, labels=labels)


def _column(name: str, samples: Samples, file: str | Path) -> int:
    matched = match_label(name, samples.label_names)
    if matched is None:
        raise UserError(f"{file}: label '{name}' is none of the data's; give the data that it corrects")
    return samples.label_names.index(matched)
