"""The one progress bar: on a terminal, with an estimate, gone when it is done; silent in a pipe or a log.

A process that is started with RSML_PROGRESS=FILE draws none and keeps in that file how far it is.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from typing import Any, TypeAlias

from tqdm import tqdm

Bar: TypeAlias = "tqdm[Any]"
FOLLOWED = "RSML_PROGRESS"


class _Kept(tqdm):
    """A bar that is written to a file instead of a terminal."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        if msg == "":  # the bar is taken away
            return True
        rate = self.format_dict["rate"] or (self.n - self.initial) / max(self.format_dict["elapsed"], 1e-9)
        left = (self.total - self.n) / rate if self.total and rate else None
        about = {"title": self.desc, "unit": self.unit.strip(), "done": self.n, "total": self.total, "left_s": left}
        file = os.environ[FOLLOWED]
        # Progress is no work worth stopping for.
        with contextlib.suppress(OSError):
            with open(f"{file}.part", "w", encoding="utf-8") as beside:
                json.dump(about, beside)
            os.replace(f"{file}.part", file)
        return True


def progress_bar(
    items: Iterable[Any] | None = None, *, title: str, unit: str, total: int | None = None, initial: int = 0
) -> Bar:
    """A bar over items, or one to be moved on with `update`.

    Args:
        items: What is gone through, if the bar is to count by itself.
        title: What is being done: "embedding".
        unit: What is counted, in the plural: "images".
        total: How many there are, where `items` cannot say.
        initial: How many were done before.
    """
    about: dict[str, Any] = {"desc": title, "unit": f" {unit}", "total": total, "initial": initial}
    if os.environ.get(FOLLOWED):
        return _Kept(items, **about, mininterval=0.3, file=open(os.devnull, "w"))
    return tqdm(items, **about, delay=1, mininterval=0.5, leave=False, disable=None)
