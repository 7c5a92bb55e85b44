"""Cut georeferenced scenes into 8-bit tiles that keep their place, and say of every tile why it was kept or dropped."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from rsml.geo.scene_record import TABLE, SceneRecord, Tile
from rsml.geo.sources import Source, find_sources
from rsml.geo.tiles import DAMAGED, KEPT, Filters, judge, limits_of, measure_tile, stretch
from rsml.raster.grid import Grid, parse_crs
from rsml.raster.opening import environment
from rsml.raster.reader import WindowReader
from rsml.raster.windows import WindowGrid, check_count
from rsml.utils.errors import UserError
from rsml.utils.files import replacing
from rsml.utils.jobs import Report, run_jobs
from rsml.utils.locks import lock
from rsml.utils.progress import progress_bar
from rsml.utils.settings import Settings

logger = logging.getLogger(__name__)

_OVERVIEW = 1024


class CropOptions(Settings):
    """How scenes are cut.

    Args:
        tile: Side of a tile in pixels.
        step: From one tile to the next, 200 for tiles of 256; the last row and column are moved back inside.
        bands: Which bands, counted from 1 over all files of a scene; None takes all but alpha.
        stretch: One pair of limits for each band, one for the scene, or none: values are 0 to 255 already.
        percentiles: The low and high limits of the stretch, from an overview of the scene without missing pixels.
        nodata: The value of missing pixels, for files that do not say.
        crs: Coordinate system, for files that do not say.
        filters: Which tiles are dropped; None keeps all that can be read.
    """

    tile: int = pydantic.Field(256, ge=8)
    step: int = pydantic.Field(default_factory=lambda given: given.get("tile", 256) * 200 // 256, ge=1)
    bands: tuple[int, ...] | None = pydantic.Field(None, min_length=1)
    stretch: Literal["band", "scene", "none"] = "band"
    percentiles: tuple[float, float] = (1.0, 99.0)
    nodata: float | None = None
    crs: str | None = None
    filters: Filters | None = Filters()

    @pydantic.model_validator(mode="after")
    def _check(self) -> CropOptions:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(
                f"percentiles: expected low < high between 0 and 100, such as 1 99, found {low:g} {high:g}"
            )
        if self.step > self.tile:
            raise ValueError(f"step {self.step} is more than the tile's {self.tile} pixels: strips would be left out")
        return self


def crop(
    scenes: Sequence[str], out: str | Path, options: CropOptions | None = None, workers: int | None = None
) -> dict[str, Counter]:
    """Cuts scenes into tiles below `out` and writes `out/tiles.csv`; interrupted and called again, it goes on.

    Args:
        scenes: Files, folders, globs, `@list.txt`; `a.tif,b.tif` are bands of one scene, `name=` before it names it.
        out: Folder of the tiles: `<scene>/<scene>_r<row>_c<column>.tif`.
        options: How they are cut.
        workers: Processes; None takes one for each processor, at most one for each scene.

    Returns:
        For every scene how many tiles there are of each reason ("kept", "cloud" ...); a scene that could not be read
        has none.

    Raises:
        UserError: No scene could be read, or the folder holds tiles that were cut otherwise.
    """
    out, options = Path(out), options or CropOptions()
    sources = find_sources(scenes)
    counts: dict[str, Counter] = {source.name: Counter() for source in sources}
    faults: dict[str, UserError] = {}
    usable, total = [], 0
    with environment():
        for source in sources:
            try:
                total += _check_scene(source, options)
                usable.append(source)
            except UserError as fault:
                faults[source.name] = fault
        tasks = [{**vars(source), "out": str(out), "options": options.model_dump(mode="json")} for source in usable]
        with progress_bar(title="cutting", unit="tiles", total=total) as progress:
            for number, result in run_jobs(crop_scene, tasks, workers or os.cpu_count() or 1, progress.update):
                if isinstance(result, UserError):
                    faults[usable[number].name] = result
                else:
                    counts[usable[number].name] = Counter(result)
    if len(faults) == len(sources):
        first = next(iter(faults.values()))
        raise UserError(f"{first}" + (f" (and {len(faults) - 1} more scenes failed)" if len(faults) > 1 else ""))
    for reason in faults.values():
        logger.warning("skipped: %s", reason)
    _join_tables(out)
    return counts


def crop_scene(task: dict[str, Any], report: Report) -> dict[str, int]:
    """Cuts one scene and returns how many tiles there are of each reason.

    Args:
        task: The fields of a `Source`, `out` and `options`.
        report: Called with the number of tiles that were done.
    """
    options = CropOptions.model_validate(task["options"])
    source = Source(task["name"], tuple(task["files"]))
    out = Path(task["out"])
    with open_source(source.files, options) as bands, bands.reading(options.tile):
        grid = bands.grid
        windows = WindowGrid(bands.size, (options.tile,) * 2, (options.step,) * 2, bands.strips)
        folder = out / source.name
        with lock(folder, "a crop"), SceneRecord(folder, source, options.model_dump(mode="json")) as record:
            limits = record.limits(lambda: _limits(bands, options))
            report(len(record.tiles))
            for block in windows.blocks():
                places = [place for place in windows.origins(block) if place not in record.tiles]
                for tile, image in _tiles(bands, places, limits, options):
                    if tile.reason == KEPT and image is not None:
                        data = encode(image, grid.part(tile.row, tile.column, options.tile, options.tile))
                        with replacing(record.file(tile.row, tile.column), sync=False) as beside:
                            beside.write_bytes(data)
                        tile = replace(tile, size=len(data))
                    record.add(tile)
                    report(1)
            record.finish(grid, options.tile)
        return Counter(tile.reason for tile in record.tiles.values())


def encode(image: np.ndarray, grid: Grid) -> bytes:
    """A GeoTIFF of (bands, height, width) uint8: deflate, pixel by pixel, no band taken for alpha."""
    bands, height, width = image.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            width=width,
            height=height,
            count=bands,
            dtype="uint8",
            crs=grid.crs,
            transform=grid.transform,
            compress="deflate",
            predictor=2,
            interleave="pixel",
            photometric="RGB" if bands == 3 else "MINISBLACK",
            alpha="UNSPECIFIED",
        ) as dataset:
            dataset.write(image)
        return memory.read()


def open_source(files: Sequence[str], options: CropOptions) -> WindowReader:
    """The bands of a scene as the options want them."""
    return WindowReader(files, options.bands, options.nodata, parse_crs(options.crs) if options.crs else None)


def _check_scene(source: Source, options: CropOptions) -> int:
    """Refuses a scene that cannot be cut; how many tiles it has."""
    with open_source(source.files, options) as bands:
        _ = bands.grid  # it must have a place
        window, step = (options.tile,) * 2, (options.step,) * 2
        check_count(", ".join(source.files), bands.size, window, step, "--tile")
        return len(WindowGrid(bands.size, window, step))


def _limits(bands: WindowReader, options: CropOptions) -> list[tuple[float, float]] | None:
    if options.stretch == "none":
        return None
    values, valid = bands.overview(_OVERVIEW)
    limits = limits_of(values, valid, options.percentiles, options.stretch == "band")
    name = ", ".join(bands.files)
    flat = [number for number, (low, high) in zip(bands.bands, limits, strict=True) if low == high]
    if any(not math.isfinite(high - low) for low, high in limits):
        raise UserError(
            f"{name}: values are too far apart to be stretched ({limits}); say what is missing with --nodata"
        )
    if not valid.any():
        logger.warning("%s: holds no pixel that is not missing (nodata, NaN or infinite)", name)
    elif len(flat) == len(limits):
        raise UserError(
            f"{name}: every pixel is {limits[0][0]:g}, so there is nothing to stretch; choose other --bands, or take "
            "values as they are with --stretch none"
        )
    elif flat:
        logger.warning("%s: band %s has one value only and becomes black", name, ", ".join(map(str, flat)))
    return limits


def _tiles(
    bands: WindowReader, places: list[tuple[int, int]], limits: list | None, options: CropOptions
) -> Iterator[tuple[Tile, np.ndarray | None]]:
    """The pixels of tiles that lie near each other: read at once, or one by one if a part is damaged."""
    if not places:
        return
    rows, columns = zip(*places, strict=True)
    top, left, side = min(rows), min(columns), options.tile
    try:
        values, valid = bands.read((top, max(rows) + side), (left, max(columns) + side))
        image = stretch(values, valid, limits)
    except RasterioError:
        if len(places) > 1:
            for place in places:
                yield from _tiles(bands, [place], limits, options)
        else:
            yield Tile(top, left, DAMAGED), None
        return
    for row, column in places:
        down, across = slice(row - top, row - top + side), slice(column - left, column - left + side)
        measures = measure_tile(image[:, down, across], valid[down, across], options.filters or Filters())
        reason = judge(measures, options.filters) if options.filters else KEPT
        yield Tile(row, column, reason, measures), image[:, down, across]


def _join_tables(out: Path) -> None:
    """Writes the table of all scenes in the folder, also of those cut earlier."""
    with replacing(out / TABLE) as beside, open(beside, "w", encoding="utf-8", newline="") as joined:
        for number, table in enumerate(sorted(out.glob(f"*/{TABLE}"))):
            with open(table, encoding="utf-8", newline="") as lines:
                header = next(lines)
                if number == 0:
                    joined.write(header)
                shutil.copyfileobj(lines, joined)
