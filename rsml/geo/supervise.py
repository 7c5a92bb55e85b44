"""From tiles and land-cover maps to a table of proportions: what GeoKR learns from instead of labels."""

from __future__ import annotations

import csv
import functools
import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import RasterioError
from rasterio.transform import Affine

from rsml.geo.classes import SEA, Classes, read_classes, ready_for
from rsml.geo.land_cover import LandCoverMap, candidates, count, longitude_latitude_bounds
from rsml.geo.tile_sources import TileSource, find_tiles
from rsml.raster.grid import Grid, UnknownPlace, crs_name, datum_unknown, grid_of, parse_crs
from rsml.raster.opening import environment, find_rasters, open_raster, words
from rsml.utils.errors import UserError
from rsml.utils.files import replacing, write_json
from rsml.utils.jobs import Report, run_jobs
from rsml.utils.progress import progress_bar

logger = logging.getLogger(__name__)

TABLE, LEFT_OUT, SUMMARY, COUNTS = "land_cover.csv", "left_out.csv", "land_cover.json", "json"
NO_MAP, NO_VALUE, ALL_SEA, NO_CLASS, LITTLE = "no map", "nodata", "sea", "no class", "little covered"
TOO_COARSE, DAMAGED, UNREADABLE, NOWHERE = "map too coarse", "damaged map", "unreadable", "no place"

_TOGETHER = 200


@dataclass
class Supervision:
    """What came of it.

    Args:
        names: The classes.
        tiles: Tiles with proportions.
        left_out: How many tiles were left out, by reason.
        proportions: Of all tiles that have some, together, by class.
        unknown: Pixels of each code that the classes do not know.
        folder: Where the tables are.
    """

    names: tuple[str, ...]
    folder: Path
    tiles: int = 0
    left_out: Counter = field(default_factory=Counter)
    proportions: dict[str, float] = field(default_factory=dict)
    unknown: Counter = field(default_factory=Counter)


def supervise(
    tiles: Sequence[str],
    land_cover: Sequence[str] | None,
    classes: str,
    out: str | Path | None = None,
    *,
    min_covered: float = 0.5,
    nodata: int | None = None,
    crs: str | None = None,
    counts: bool = True,
    workers: int | None = None,
) -> Supervision:
    """Writes the land-cover proportions of every tile, and a list of those without.

    `land_cover.csv` has the columns path (relative to its folder), split (if the tiles are divided), covered, and one
    for each class; `left_out.csv` path, reason and covered; `json/` the pixel counts of each tile.

    Args:
        tiles: A folder that `crop` wrote, one of built-in scenes, or any rasters.
        land_cover: Maps: files, folders, globs. None takes the tiles' own, which only built-in scenes have.
        classes: Name of ready classes, or a file.
        out: Folder of the tables; None takes that of the tiles.
        min_covered: Share of a tile that must be under one of the classes.
        nodata: Code of missing pixels, for maps that do not say.
        crs: Coordinate system, for maps that do not say.
        counts: Write a JSON file for each tile.
        workers: Processes; None takes one for each processor.

    Raises:
        UserError: No tile got proportions, or an input is not in order.
    """
    if not 0 <= min_covered <= 1:
        raise UserError(f"--min-covered: expected a share from 0 to 1, found {min_covered:g}")
    meaning = read_classes(classes)
    sources, base = find_tiles(tiles)
    folder = Path(out) if out is not None else base
    maps = find_rasters(land_cover) if land_cover else []
    if not maps and any(source.land_cover is None for source in sources):
        raise UserError("no land cover named; give maps with --land-cover")
    options = {"nodata": nodata, "crs": crs, "meaning": {str(code): name for code, name in meaning.meaning.items()}}
    with environment():
        opened, bounds = _open_maps(tuple(maps), nodata, crs)
        for land_cover_map in opened:
            _warn_of_datum(land_cover_map)
        tasks = [
            {"tiles": [asdict(source) for source in sources[first : first + _TOGETHER]], "maps": maps, **options}
            for first in range(0, len(sources), _TOGETHER)
        ]
        results: dict[int, list] = {}
        with progress_bar(title="counting", unit="tiles", total=len(sources)) as progress:
            for number, result in run_jobs(count_tiles, tasks, workers or os.cpu_count() or 1, progress.update):
                if isinstance(result, UserError):
                    raise result
                results[number] = result
    found = [tile for number in sorted(results) for tile in results[number]]
    done = _write(folder, base, sources, found, meaning, min_covered, counts)
    if done.tiles == 0:
        (folder / TABLE).unlink()
        raise UserError(_nothing(done, found, sources, bounds, classes))
    write_json(
        folder / SUMMARY,
        {
            "classes": {name: sorted(c for c, n in meaning.meaning.items() if n == name) for name in meaning.counted()},
            "maps": maps,
            "tiles": done.tiles,
            "left_out": dict(done.left_out),
            "min_covered": min_covered,
            "proportions": done.proportions,
            "unknown_codes": {str(code): number for code, number in sorted(done.unknown.items())},
            "rule": "a land-cover pixel counts where its centre lies",
        },
    )
    return done


def _warn_of_datum(found: LandCoverMap) -> None:
    if datum_unknown(found.grid.crs):
        logger.warning(
            "%s: its coordinate system (%s) does not name a datum; it is taken for the tiles' own, and may lie some "
            "100 m off",
            found.path,
            crs_name(found.grid.crs),
        )


def count_tiles(task: dict[str, Any], report: Report) -> list[dict[str, Any]]:
    """Counts the codes under some tiles.

    Args:
        task: `tiles` (fields of `TileSource`), `maps`, `nodata`, `crs` and `meaning`.
        report: Called with the number of tiles that were done.

    Returns:
        For every tile pixels and shares by code; or why there are none.
    """
    meaning = Classes((), {int(code): name for code, name in task["meaning"].items()})
    maps, bounds = _open_maps(tuple(task["maps"]), task["nodata"], task["crs"])
    result = []
    for fields in task["tiles"]:
        result.append(_count_tile(TileSource(**fields), maps, bounds, meaning, task["nodata"]))
        report(1)
    return result


@functools.lru_cache(maxsize=2)
def _open_maps(paths: tuple[str, ...], nodata: int | None, crs: str | None) -> tuple[list[LandCoverMap], np.ndarray]:
    system = parse_crs(crs) if crs else None
    maps = [LandCoverMap(path, nodata, crs=system) for path in paths]
    return maps, np.array([found.bounds for found in maps]).reshape(-1, 4)


def _count_tile(
    source: TileSource, maps: list[LandCoverMap], bounds: np.ndarray, meaning: Classes, nodata: int | None
) -> dict[str, Any]:
    try:
        grid = _grid(source)
    except UserError as error:
        return {"reason": UNREADABLE, "detail": str(error)}
    try:
        under = [maps[number] for number in candidates(grid, bounds)]
        if not maps and source.land_cover:
            under = [LandCoverMap(source.land_cover, nodata, grid)]
        found = count(grid, under, [meaning.missing(land_cover.nodata) for land_cover in under])
    except UnknownPlace as error:
        return {"reason": NOWHERE, "detail": str(error)}
    except RasterioError as error:
        return {"reason": DAMAGED, "detail": words(error)}
    if not found.on_map:
        return {"reason": TOO_COARSE if under and not found.centres else NO_MAP}
    return {name: {str(code): n for code, n in vars(found)[name].items()} for name in ("pixels", "shares")}


def _grid(source: TileSource) -> Grid:
    with open_raster(source.path) as dataset:
        if source.place is None:
            return grid_of(dataset)
        crs, transform = source.place
        return Grid(parse_crs(crs), Affine(*transform), dataset.height, dataset.width)


def _write(
    folder: Path,
    base: Path,
    sources: list[TileSource],
    found: list[dict[str, Any]],
    meaning: Classes,
    min_covered: float,
    counts: bool,
) -> Supervision:
    """Writes the tables, and the counts of each tile."""
    done = Supervision(meaning.names, folder)
    divided = any(source.split for source in sources)
    totals: Counter = Counter()
    with (
        replacing(folder / TABLE) as table,
        replacing(folder / LEFT_OUT) as others,
        open(table, "w", encoding="utf-8", newline="") as table_file,
        open(others, "w", encoding="utf-8", newline="") as others_file,
    ):
        rows, left = (csv.writer(file, lineterminator="\n") for file in (table_file, others_file))
        rows.writerow(["path", *["split"] * divided, "covered", *meaning.names])
        left.writerow(["path", "reason", "covered", "detail"])
        for source, tile in zip(sources, found, strict=True):
            path = Path(os.path.relpath(source.path, folder)).as_posix()
            by_class = _by_class(tile.get("shares", {}), meaning)
            covered = sum(by_class[name] for name in meaning.names)
            done.unknown.update(_unknown(tile.get("pixels", {}), meaning))
            reason = tile.get("reason") or _why_not(by_class, covered, min_covered)
            if reason:
                done.left_out[reason] += 1
                left.writerow([path, reason, _digits(min(covered, 1.0)), tile.get("detail", "")])
                continue
            done.tiles += 1
            totals.update({name: by_class[name] for name in meaning.names})
            proportions = [_digits(by_class[name] / covered) for name in meaning.names]
            rows.writerow([path, *[source.split] * divided, _digits(min(covered, 1.0)), *proportions])
            if counts:
                pixels = _by_class(tile["pixels"], meaning)
                file = folder / COUNTS / Path(os.path.relpath(source.path, base)).with_suffix(".json")
                with replacing(file, sync=False) as beside:
                    beside.write_text(json.dumps({name: int(pixels[name]) for name in meaning.counted()}, indent=4))
    total = sum(totals.values())
    done.proportions = {name: totals[name] / total for name in meaning.names} if total else {}
    return done


def _by_class(by_code: dict[str, float], meaning: Classes) -> Counter[str]:
    """Sums over the codes of each class; those of no known code are called by an empty name."""
    result: Any = Counter()
    for code, number in by_code.items():
        result[meaning.meaning.get(int(code), "")] += number
    return result


def _unknown(pixels: dict[str, int], meaning: Classes) -> dict[int, int]:
    return {int(code): number for code, number in pixels.items() if int(code) not in meaning.meaning}


def _why_not(by_class: Counter[str], covered: float, min_covered: float) -> str | None:
    """Why a tile is left out, if it is."""
    if not sum(by_class.values()):
        return NO_VALUE
    if covered == 0:
        return ALL_SEA if set(by_class) == {SEA} else NO_CLASS
    return LITTLE if covered < min_covered else None


def _digits(share: float) -> str:
    return f"{share:.8g}"


def _nothing(done: Supervision, found: list[dict], sources: list[TileSource], maps: np.ndarray, classes: str) -> str:
    """Why no tile got proportions."""
    if done.unknown and not done.left_out.keys() & {ALL_SEA, LITTLE}:
        codes = ", ".join(str(code) for code in sorted(done.unknown)[:12])
        known = ready_for(done.unknown)
        hint = f"--classes {known} knows them" if known and known != classes else "list them in a .json or .csv file"
        return f"--classes {classes}: knows none of the codes found ({codes}); {hint}"
    details = [tile["detail"] for tile in found if "detail" in tile]
    reasons = ", ".join(f"{number} {reason}" for reason, number in done.left_out.most_common())
    message = f"no tile got proportions: {reasons}; see {done.folder / LEFT_OUT}"
    if details:
        return f"{message}; the first: {details[0]}"
    if done.left_out[NO_MAP] == len(sources):
        boxes = np.array([_bounds(source) for source in sources])
        return (
            f"none of {len(sources)} tiles overlaps a map: tiles lie in longitude {_span(boxes, 0)}, latitude "
            f"{_span(boxes, 1)}, maps in {_span(maps, 0)}, {_span(maps, 1)}; give maps of this place"
        )
    return message


def _bounds(source: TileSource) -> tuple[float, float, float, float]:
    return longitude_latitude_bounds(_grid(source))


def _span(boxes: np.ndarray, axis: int) -> str:
    return f"{boxes[:, axis].min():.2f} to {boxes[:, axis + 2].max():.2f}"
