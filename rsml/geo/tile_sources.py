"""Which tiles are to be supervised, where they lie, and which map is theirs: from the words on the command line."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rsml.geo.scene_record import TABLE
from rsml.geo.tiles import KEPT
from rsml.raster.opening import find_rasters
from rsml.utils.errors import UserError

GEOREFERENCE = "georeference.csv"
"""Beside the built-in scenes: path, land_cover, crs, and a to f of the affine map."""


@dataclass(frozen=True)
class TileSource:
    """One tile.

    Args:
        path: Its file.
        split: Part of the data set, if it is divided already.
        place: Coordinate system and affine map, where a table says them and not the file.
        land_cover: Its own map of the same pixels, where it has one.
    """

    path: str
    split: str = ""
    place: tuple[str, tuple[float, ...]] | None = None
    land_cover: str | None = None


def find_tiles(named: Sequence[str]) -> tuple[list[TileSource], Path]:
    """Tiles by name, in order, and the folder that they share.

    A folder that crop wrote gives the tiles that were kept; one of built-in scenes gives their images.
    """
    tiles: list[TileSource] = []
    for name in named:
        folder = Path(name)
        if (folder / GEOREFERENCE).is_file():
            tiles += _drawn(folder)
        elif (folder / TABLE).is_file():
            with open(folder / TABLE, encoding="utf-8", newline="") as file:
                found = [row["path"] for row in csv.DictReader(file) if row["reason"] == KEPT]
            if not found:
                raise UserError(f"{folder / TABLE}: no tile was kept; crop with other limits (see --help)")
            tiles += [TileSource(str(folder / path)) for path in found]
        else:
            tiles += [TileSource(path) for path in find_rasters([name])]
    if not tiles:
        raise UserError("no tiles named; give the folder that crop wrote, or rasters")
    if len(named) == 1 and Path(named[0]).is_dir():
        return tiles, Path(named[0])
    return tiles, Path(os.path.commonpath([Path(tile.path).resolve().parent for tile in tiles]))


def _drawn(folder: Path) -> list[TileSource]:
    """The built-in scenes: PNG files whose place stands in a table."""
    splits: dict[str, str] = {}
    if (folder / "labels.csv").is_file():
        with open(folder / "labels.csv", encoding="utf-8", newline="") as file:
            splits = {row["path"]: row.get("split") or "" for row in csv.DictReader(file)}
    with open(folder / GEOREFERENCE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return [
            TileSource(
                str(folder / row["path"]),
                splits.get(row["path"], ""),
                (row["crs"], tuple(float(row[name]) for name in "abcdef")),
                str(folder / row["land_cover"]) if row.get("land_cover") else None,
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / GEOREFERENCE}: expected columns path, land_cover, crs and numbers a to f ({error})"
        ) from None
