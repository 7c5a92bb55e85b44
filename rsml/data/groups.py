"""Which images must not be divided: the same pixels, a column, a pattern of the name, neighbours by number or found."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rsml.data.image_index import without_suffix
from rsml.data.images import BandsNeeded, decode
from rsml.data.parts import together
from rsml.data.samples import Samples
from rsml.utils.errors import UserError
from rsml.utils.progress import progress_bar

logger = logging.getLogger("rsml")
KINDS = "column:NAME, pattern:REGEX, numbers:N or found"
Result = TypeVar("Result")


@dataclass(frozen=True)
class Grouping:
    """How images are grouped: one of `column`, `pattern`, `numbers`, `found`, and what it needs.

    Examples:
        >>> Grouping.parse("numbers:10")
        Grouping(kind='numbers', value='10')
    """

    kind: str
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> Grouping:
        """Reads the value of `--groups`, or refuses it."""
        kind, _, value = text.partition(":")
        wrong = kind not in ("column", "pattern", "numbers", "found") or bool(value) == (kind == "found")
        if wrong or (kind == "numbers" and not (value.isdecimal() and int(value[:9]) >= 2)):
            raise UserError(f"groups is {text!r}; expected {KINDS} (N of 2 or more)")
        if kind == "pattern":
            try:
                re.compile(value)
            except (re.error, RecursionError, OverflowError) as fault:
                raise UserError(f"groups: {value!r} is no regular expression ({fault})") from None
        return cls(kind, value)

    @property
    def column(self) -> str | None:
        """The column that `read_samples` must keep for it."""
        return self.value if self.kind == "column" else None

    def of(self, samples: Samples) -> np.ndarray:
        """Returns `(samples,)` numbers, equal for images that belong together.

        Args:
            samples: The images; for `column` read with `group=`.
        """
        if self.kind == "found":
            from rsml.data.neighbours import find_neighbours

            return connected(len(samples), find_neighbours(samples))
        keys = samples.groups.tolist() if self.kind == "column" else list(map(self._key, samples.paths.tolist()))
        grouped = sum(key != "" for key in keys)
        if not grouped:
            raise UserError(f"groups: {self.kind} {self.value!r} fits none of {len(keys)} images; expected {KINDS}")
        if grouped < len(keys):
            logger.warning("%d of %d images are in no group and may go anywhere", len(keys) - grouped, len(keys))
        return _numbered([key or row for row, key in enumerate(keys)])

    def _key(self, path: str) -> str:
        if self.kind == "numbers":
            found = re.search(r"^(.*?)(\d{1,15})$", without_suffix(path))
            return f"{found[1]}#{int(found[2]) // int(self.value)}" if found else ""
        match = re.search(self.value, path)
        return "" if match is None else "\0".join(map(str, match.groups() or match.group(0)))


def _numbered(keys: Sequence[Any]) -> np.ndarray:
    """The row at which each key comes first."""
    first: dict[Any, int] = {}
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], dtype=np.int64)


def connected(count: int, pairs: np.ndarray) -> np.ndarray:
    """Returns `(count,)` numbers, equal for rows that pairs connect.

    Args:
        count: Of rows.
        pairs: `(pairs, 2)` rows.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Groups that keep together what either of two groupings keeps together."""
    pairs = [(rows[0], row) for groups in (one, other) for rows in together(groups) for row in rows[1:]]
    return connected(len(one), np.array(pairs, dtype=np.int64).reshape(-1, 2))


def duplicate_groups(samples: Samples, threads: int | None = None) -> np.ndarray:
    """Returns `(samples,)` numbers that are equal where the decoded pixels are equal.

    Args:
        samples: The images to compare; one that cannot be read is named in the error.
        threads: How many images are decoded at once; one a processor if None.
    """
    return _numbered(of_every_image(_pixel_hash, samples, "comparing pixels", threads))


def of_every_image(
    work: Callable[[str], Result], samples: Samples, title: str, threads: int | None = None
) -> list[Result]:
    """What a function finds of every file, in order, several at a time; with a bar where it takes long."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        try:
            found = pool.map(work, samples.files.tolist())
            return list(progress_bar(found, title=title, unit="images", total=len(samples)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _pixel_hash(file: str) -> bytes:
    try:
        pixels = np.ascontiguousarray(decode(file))
    except BandsNeeded:
        # A raster of many bands is no picture until bands are chosen, but its bytes can be compared.
        return hashlib.blake2b(Path(file).read_bytes(), digest_size=16).digest()
    return hashlib.blake2b(pixels.tobytes(), digest_size=16, key=repr(pixels.shape).encode()).digest()
