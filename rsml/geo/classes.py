"""What the codes of land-cover maps mean: ready lists for the common products, and files of one's own."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsml.data.land_cover import CLASSES
from rsml.utils.errors import UserError
from rsml.utils.settings import nearest

SEA, NODATA, IGNORED = "sea", "nodata", "ignored"
"""Names that are no classes: open sea, no information, and land cover that is left out."""

COLUMNS = ("path", "split", "covered")
"""What no class can be called, since the table has columns of these names."""


def _listed(text: str) -> dict[str, Any]:
    return {name: codes for name, *codes in (part.split() for part in text.split(","))}


READY: dict[str, dict[str, Any]] = {
    # GlobeLand30 as GeoKR trains with it: shrubland and tundra have no class there.
    "geokr": {**{name: list(codes) for name, codes in CLASSES.items()}, IGNORED: [40, "70-79"], SEA: 255, NODATA: 0},
    "globeland30": _listed(
        "cultivated 10, forest 20, grassland 30, shrubland 40, wetland 50, water 60, tundra 70-79, artificial 80, "
        "bare 90, snow 100, sea 255, nodata 0"
    ),
    # ESA WorldCover 2020 and 2021.
    "worldcover": _listed(
        "trees 10, shrubland 20, grassland 30, cropland 40, built-up 50, bare 60, snow 70, water 80, wetland 90, "
        "mangroves 95, moss-lichen 100, nodata 0"
    ),
    # The National Land Cover Database of the USA: level I of the legends of 1992 and of 2001 to today.
    "nlcd": _listed(
        "water 11, snow 12, developed 21-24 85, barren 31-33, forest 41-43, shrubland 51-52, herbaceous 71-74, "
        "cultivated 61 81-84, wetlands 90-99, nodata 0 127 250"
    ),
    # CORINE: level-3 codes, and the 1 to 44 that its rasters hold in their stead.
    "corine": _listed(
        "artificial 111-142 1-11, cultivated 211-223 241-244 12-17 19-22, pasture 231 18, forest 311-313 23-25, "
        "grassland 321 26, shrubland 322-324 27-29, bare 331-334 30-33, snow 335 34, wetland 411-423 35-39, "
        "water 511-522 40-43, sea 523 44, nodata 0 48 990 995 999"
    ),
    # The raster `nlcd.tif` of Zion National Park in the R package spDataLarge.
    "zion": _listed("water 1, developed 2, barren 3, forest 4, shrubland 5, herbaceous 6, cultivated 7, wetlands 8"),
}

_EXPECTED = 'expected class names with codes, such as {"forest": [41, 42], "tundra": "70-79", "sea": 255}'


@dataclass(frozen=True)
class Classes:
    """Which class each code means.

    Args:
        names: The classes, in order.
        meaning: Class, or one of "sea", "nodata" and "ignored", of every code that is known.
    """

    names: tuple[str, ...]
    meaning: dict[int, str]

    def counted(self) -> list[str]:
        """The classes, and the sea where a code means it."""
        return [*self.names, *[SEA] * (SEA in self.meaning.values())]

    def missing(self, nodata: int | None) -> set[int]:
        """The codes without information: those of the list, and the map's own nodata unless the list knows better."""
        own = {nodata} if nodata is not None and nodata not in self.meaning else set()
        return own | {code for code, name in self.meaning.items() if name == NODATA}


def read_classes(name: str) -> Classes:
    """Ready classes by name, or those of a JSON or CSV file.

    Raises:
        UserError: There are none of this name, or the file is not in order.
    """
    if name in READY:
        return make_classes(READY[name], name)
    path = Path(name)
    if path.suffix.lower() not in (".json", ".csv"):
        raise UserError(f"--classes {name}: no such list{nearest(name, READY)}; give its name, or a .json or .csv file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{name}: not readable ({error.strerror}); give a .json or .csv file of classes") from None
    if path.suffix.lower() == ".csv":
        return make_classes(_of_csv(text, name), name)
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{name}: not valid JSON ({error}); {_EXPECTED}") from None
    if not isinstance(found, dict):
        raise UserError(f"{name}: {_EXPECTED}, found a {type(found).__name__}")
    return make_classes(found, name)


def make_classes(codes: dict[str, Any], source: str) -> Classes:
    """Checks classes and their codes.

    Args:
        codes: A code, a range such as "70-79", or a list of these, by class.
        source: Where they come from.
    """
    meaning: dict[int, str] = {}
    for name, listed in codes.items():
        if name in COLUMNS or not name.strip():
            raise UserError(f"{source}: a class cannot be called {name!r}, as a column is; choose another name")
        for code in _codes(listed, name, source):
            if meaning.setdefault(code, name) != name:
                raise UserError(f"{source}: code {code} is listed for {meaning[code]!r} and for {name!r}; list it once")
    names = tuple(name for name in codes if name not in (SEA, NODATA, IGNORED))
    if len(names) < 2:
        raise UserError(f"{source}: expected two classes or more, found {len(names)}; {_EXPECTED}")
    return Classes(names, meaning)


def ready_for(codes: Iterable[int]) -> str | None:
    """The ready list that knows most of some codes, if it knows any."""
    found = set(codes)
    known = {name: len(found & set(make_classes(listed, name).meaning)) for name, listed in READY.items()}
    best = max(known, key=known.__getitem__)
    return best if known[best] else None


def _codes(listed: Any, name: str, source: str) -> list[int]:
    if isinstance(listed, list):
        return [code for part in listed for code in _codes(part, name, source)]
    match = re.fullmatch(r"\s*(-?\d+)(?:\s*-\s*(\d+))?\s*", str(listed)) if not isinstance(listed, bool) else None
    if not match:
        raise UserError(f"{source}: {listed!r} of class {name!r} is no code; {_EXPECTED}")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last <= first + 9999:
        raise UserError(f"{source}: {listed!r} of class {name!r} is no range of codes; give it as 70-79")
    return list(range(first, last + 1))


def _of_csv(text: str, source: str) -> dict[str, list]:
    rows = csv.DictReader(text.splitlines())
    columns = {(name or "").strip().lower(): name for name in rows.fieldnames or []}
    of_class, of_codes = columns.get("class"), columns.get("codes", columns.get("code"))
    if of_class is None or of_codes is None:
        raise UserError(
            f"{source}: expected columns class and codes, found {', '.join(filter(None, columns)) or 'none'}"
        )
    result: dict[str, list] = {}
    for row in rows:
        result.setdefault((row[of_class] or "").strip(), []).extend(
            re.split(r"[\s;|,]+", (row[of_codes] or "").strip())
        )
    return result
