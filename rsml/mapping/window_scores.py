"""What is known of every window of a scene so far: a file that only grows, so that a killed run goes on at its end."""

from __future__ import annotations

import os
import shutil
from enum import IntEnum
from pathlib import Path

import numpy as np

from rsml.utils.errors import UserError


class Status(IntEnum):
    """What became of a window; the 0 of a file that lost its end in a power cut is none of them."""

    LABELLED = 1
    NODATA = 2
    UNREADABLE = 3


class WindowScores:
    """One record a window, in the order of the windows: its status and its `(labels,)` probabilities.

    Args:
        file: Where the records are; it need not exist yet.
        windows: How many the scene has.
        labels: How many the model has.
    """

    def __init__(self, file: Path, windows: int, labels: int) -> None:
        self.file, self.windows = file, windows
        self.dtype = np.dtype([("status", "u1"), ("scores", "<f4", (labels,))])

    def done(self, batch_size: int) -> int:
        """How many windows need not be done again.

        They end with a whole batch: so the batches of the rest are those of a run that was never interrupted, and the
        scores are the same to the last bit.
        """
        if not self.file.is_file() or self.file.stat().st_size < self.dtype.itemsize:
            return 0
        status = self.read(min(self.windows, self.file.stat().st_size // self.dtype.itemsize))["status"]
        lost = np.flatnonzero(status == 0)
        if len(status) == self.windows and not len(lost):
            return self.windows
        status = status[: lost[0]] if len(lost) else status
        labelled = np.flatnonzero(status == Status.LABELLED)
        whole = len(labelled) // batch_size * batch_size
        return len(status) if whole == len(labelled) else int(labelled[whole])

    def check_room(self, folder: Path) -> None:
        """Refuses windows whose records would not fit on the disk that holds a folder."""
        while not folder.exists():
            folder = folder.parent
        have = self.file.stat().st_size if self.file.is_file() else 0
        need, free = self.windows * self.dtype.itemsize - have, shutil.disk_usage(folder).free
        if need > free:
            raise UserError(
                f"{folder}: the scores of {self.windows} windows take {need / 2**20:.0f} MiB, {free / 2**20:.0f} are "
                "free; make room, choose a larger --step, or another folder with --out"
            )

    def read(self, count: int | None = None) -> np.ndarray:
        """The first records, or all, mapped into memory."""
        return np.memmap(self.file, self.dtype, "r", shape=(self.windows if count is None else count,))

    def keep(self, count: int) -> None:
        """Cuts off all but the first records."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "ab") as file:
            file.truncate(count * self.dtype.itemsize)

    def append(self, status: np.ndarray, scores: np.ndarray) -> None:
        """Adds records, all of them or (disk full) none."""
        records = np.zeros(len(status), self.dtype)
        records["status"], records["scores"] = status, scores
        size = self.file.stat().st_size
        try:
            with open(self.file, "ab") as file:
                file.write(records.tobytes())
        except OSError as fault:
            os.truncate(self.file, size)
            raise not_written(self.file, fault) from None


def not_written(file: Path, fault: Exception) -> UserError:
    """What a full disk, or the like, means to the user."""
    words = getattr(fault, "strerror", None) or " ".join(str(fault.__cause__ or fault).split())
    return UserError(
        f"{file}: could not be written ({words}); what is labelled is kept: make room and run the same command again"
    )
