"""The one progress bar: on a terminal, with an estimate, gone when it is done; silent in a pipe or a log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from tqdm import tqdm

Bar: TypeAlias = "tqdm[Any]"


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
    return tqdm(
        items, desc=title, unit=f" {unit}", total=total, initial=initial,
        delay=1, mininterval=0.5, leave=False, disable=None,
    )  # fmt: skip
