"""Count the pixels of categorical maps whose centres lie in a tile, whatever the coordinate systems of the two."""

from __future__ import annotations

import functools
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.windows import Window

from rsml.raster.grid import LONGITUDE_LATITUDE, Grid, UnknownPlace, apply, grid_of, transform_points
from rsml.raster.opening import open_raster
from rsml.utils.errors import UserError

# Centres this close to an edge, in pixels of the tile, are on it: grids that share an edge have it at the same place
# up to rounding, and each centre on it must fall to exactly one of two tiles.
_DECIMALS = 6
_STRIP = 2**20
_NODES_EVERY = 32
_FEW = 4096


class LandCoverMap:
    """A categorical raster, or one sheet of a map.

    Args:
        path: The raster; its first band holds the codes.
        nodata: The code of missing pixels, if the file does not say.
        grid: Where it lies, if the file does not say.
        crs: Coordinate system, if the file does not say.

    Raises:
        UserError: It is no raster of whole numbers, or does not say where it lies.
    """

    def __init__(self, path: str, nodata: int | None = None, grid: Grid | None = None, crs: CRS | None = None) -> None:
        self.path = path
        with open_raster(path) as dataset:
            kind = np.dtype(dataset.dtypes[0])
            if kind.kind not in "iu":
                raise UserError(
                    f"{path}: has values of type {kind}, expected the whole numbers of a land-cover map; if they are "
                    "codes, convert it: gdal_translate -ot Int16"
                )
            self.grid = grid or grid_of(dataset, crs)
            tagged = dataset.nodatavals[0]
            self.nodata = nodata if tagged is None or math.isnan(tagged) else int(tagged)
        try:
            self.bounds = longitude_latitude_bounds(self.grid)
        except UnknownPlace as error:
            raise UserError(f"{path}: lies nowhere on Earth, {error}; check its geotransform") from None

    def read(self, row: int, column: int, height: int, width: int) -> np.ndarray:
        """The codes of a window within the map.

        Raises:
            RasterioError: A part of the file is damaged.
        """
        return _dataset(self.path).read(1, window=Window(column, row, width, height))


@dataclass
class Counted:
    """What lies under a tile.

    Args:
        pixels: Pixels of each code, missing ones left out.
        shares: Share of the tile's area under each code; they sum to 1 where the tile is covered by maps.
        centres: Whether any map has pixels so small that a centre falls into the tile.
        on_map: Whether one of them lies on its map.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    shares: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    centres: bool = False
    on_map: bool = False


def count(tile: Grid, maps: Sequence[LandCoverMap], missing: Sequence[Collection[int]]) -> Counted:
    """Counts the codes under a tile.

    A pixel belongs to the tile if its centre does; a centre on the left or upper edge does, one on the right or lower
    edge does not. Shares are of the centres that an endless grid would have in the tile. Where maps overlap the first
    one that has a value counts.

    Args:
        tile: The tile.
        maps: Maps that may lie under it, of any coordinate systems.
        missing: The codes of each map that mean nothing.

    Raises:
        RasterioError: A part of a map is damaged.
        UnknownPlace: There is no way between the coordinate systems here.
    """
    result = Counted()
    before: list[tuple[LandCoverMap, Collection[int]]] = []
    for land_cover, without in zip(maps, missing, strict=True):
        pixels: Counter = Counter()
        centres = 0
        grid = land_cover.grid
        for number, (window, shift) in enumerate(_windows(tile, grid)):
            for row, height in _strips(window):
                column, width = window.col_off, window.width
                inside = _inside(tile, grid, (row, column, height, width), shift)
                centres += int(inside.sum()) if number == 0 else 0
                top, bottom = max(row, 0), min(row + height, grid.height)
                left, right = max(column, 0), min(column + width, grid.width)
                if top >= bottom or left >= right:
                    continue
                hit = inside[top - row : bottom - row, left - column : right - column]
                if not hit.any():
                    continue
                result.on_map = True
                codes = land_cover.read(top, left, bottom - top, right - left)
                if before:
                    hit = hit & ~np.isin(codes, list(without))
                    hit = _not_under(hit, grid, (top, left), shift, before)
                pixels.update(_histogram(codes[hit]))
        for code in without:
            del pixels[code]
        if centres:
            result.centres = True
            result.pixels.update(pixels)
            for code, number in pixels.items():
                result.shares[code] += number / centres
            before.append((land_cover, without))
    return result


def longitude_latitude_bounds(grid: Grid) -> tuple[float, float, float, float]:
    """West, south, east, north, with a little to spare; east is beyond 180 where the grid crosses that meridian."""
    x, y = transform_points(grid.crs, LONGITUDE_LATITUDE, *grid.outline())
    x, y = x[np.isfinite(x)], y[np.isfinite(y)]
    if not len(x):
        raise UnknownPlace("its edge has no longitude and latitude")
    x = np.unwrap(x, period=360)
    west, south, east, north = x.min(), y.min(), x.max(), y.max()
    for pole in (-90.0, 90.0):
        if not grid.crs.is_geographic and _holds(grid, pole):
            west, east, south, north = -180.0, 180.0, min(south, pole), max(north, pole)
    wide, high = 0.01 * (east - west), 0.01 * (north - south)
    return float(west - wide), float(south - high), float(east + wide), float(north + high)


def _holds(grid: Grid, pole: float) -> bool:
    try:
        x, y = transform_points(LONGITUDE_LATITUDE, grid.crs, np.zeros(1), np.full(1, pole))
    except UnknownPlace:
        return False
    column, row = (float(axis[0]) for axis in apply(~grid.transform, x, y))
    # A cylindrical system has a row for the pole, not a place.
    return 0 < column < grid.width and 0 < row < grid.height


def candidates(tile: Grid, bounds: np.ndarray) -> np.ndarray:
    """Numbers of the maps that may lie under a tile.

    Args:
        tile: The tile.
        bounds: (maps, 4) west, south, east, north.
    """
    west, south, east, north = longitude_latitude_bounds(tile)
    meets = (bounds[:, 1] <= north) & (south <= bounds[:, 3])
    around = np.zeros(len(bounds), bool)
    for turn in (-360, 0, 360):
        around |= (bounds[:, 0] <= east + turn) & (west + turn <= bounds[:, 2])
    return np.flatnonzero(meets & around)


@functools.lru_cache(maxsize=16)
def _dataset(path: str) -> rasterio.DatasetReader:
    return open_raster(path)


def _windows(tile: Grid, grid: Grid) -> list[tuple[Window, float]]:
    """Windows of a map around a tile, and what to take from x so that it counts on across the 180th meridian.

    The first one is always there, wherever it lies, and holds the centres of the endless grid.
    """
    x, y = transform_points(tile.crs, grid.crs, *tile.outline())
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        raise UnknownPlace("its edge lies where the map's coordinate system has no coordinates")
    turns: tuple[float, ...] = (0,)
    if grid.crs.is_geographic:
        x = np.unwrap(x, period=360)
        turns = (0, -360, 360)
    found = []
    for turn in turns:
        columns, rows = apply(~grid.transform, x + turn, y)
        top, left = math.floor(rows.min()) - 1, math.floor(columns.min()) - 1
        bottom, right = math.ceil(rows.max()) + 1, math.ceil(columns.max()) + 1
        if turn == 0 or (left < grid.width and right > 0):
            found.append((Window(left, top, right - left, bottom - top), turn))
    return found


def _strips(window: Window) -> Iterator[tuple[int, int]]:
    """First row and height of pieces that are small enough to be looked at together."""
    high = max(1, _STRIP // window.width)
    for row in range(window.row_off, window.row_off + window.height, high):
        yield row, min(high, window.row_off + window.height - row)


def _inside(tile: Grid, grid: Grid, window: tuple[int, int, int, int], shift: float) -> np.ndarray:
    """(height, width) whether the centre of each pixel of a window of the map lies in the tile."""
    row, column, height, width = window
    upright = all(abs(t.b) + abs(t.d) == 0 for t in (tile.transform, grid.transform))
    if tile.crs == grid.crs and upright:
        x, _ = apply(grid.transform, column + np.arange(width) + 0.5, np.zeros(width))
        _, y = apply(grid.transform, np.zeros(height), row + np.arange(height) + 0.5)
        columns = (x - shift - tile.transform.c) / tile.transform.a
        rows = (y - tile.transform.f) / tile.transform.e
        return _within(rows, tile.height)[:, None] & _within(columns, tile.width)
    if height * width <= _FEW:
        places = np.meshgrid(np.arange(height, dtype=float), np.arange(width, dtype=float), indexing="ij")
        rows, columns = _in_tile(tile, grid, row + places[0], column + places[1], shift)
        return _within(rows, tile.height) & _within(columns, tile.width)
    return _inside_by_nodes(tile, grid, window, shift)


def _inside_by_nodes(tile: Grid, grid: Grid, window: tuple[int, int, int, int], shift: float) -> np.ndarray:
    """The same for many pixels: positions interpolated between nodes, and exact ones wherever that could matter."""
    row, column, height, width = window
    fine = [np.linspace(0, n - 1, 2 * math.ceil((n - 1) / _NODES_EVERY) + 1) for n in (height, width)]
    rows, columns = np.meshgrid(row + fine[0], column + fine[1], indexing="ij")
    exact = _in_tile(tile, grid, rows, columns, shift)
    every = np.arange(height, dtype=float), np.arange(width, dtype=float)
    inside = np.ones((height, width), bool)
    doubtful = np.zeros((height, width), bool)
    for positions, length in zip(exact, (tile.height, tile.width), strict=True):
        if not np.isfinite(positions).all():
            doubtful[:] = True
            break
        nodes = positions[::2, ::2]
        # Half way between nodes the error is greatest. On conformal maps the errors along rows and columns cancel in
        # the middle of a cell, but not on its sides, which are looked at too.
        error = 4 * np.abs(_interpolate(nodes, *fine) - positions).max() + 10.0**-_DECIMALS
        approximate = _interpolate(nodes, *every)
        inside &= (approximate >= 0) & (approximate < length)
        doubtful |= (np.abs(approximate) <= error) | (np.abs(approximate - length) <= error)
    rows, columns = np.nonzero(doubtful)
    exact = _in_tile(tile, grid, row + rows.astype(float), column + columns.astype(float), shift)
    inside[rows, columns] = _within(exact[0], tile.height) & _within(exact[1], tile.width)
    return inside


def _interpolate(nodes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear, between nodes that are spread evenly from the first to the last row and column."""
    for axis, places in ((0, rows), (1, columns)):
        along = places * ((nodes.shape[axis] - 1) / places[-1])
        first = np.minimum(along.astype(int), nodes.shape[axis] - 2)
        share = (along - first).reshape((-1, 1) if axis == 0 else (1, -1))
        nodes = nodes.take(first, axis) * (1 - share) + nodes.take(first + 1, axis) * share
    return nodes


def _in_tile(
    tile: Grid, grid: Grid, rows: np.ndarray, columns: np.ndarray, shift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where the centres of map pixels lie, in rows and columns of the tile."""
    x, y = apply(grid.transform, columns + 0.5, rows + 0.5)
    x, y = transform_points(grid.crs, tile.crs, x - shift, y)
    in_columns, in_rows = apply(~tile.transform, x, y)
    return in_rows, in_columns


def _within(positions: np.ndarray, length: int) -> np.ndarray:
    rounded = np.round(positions, _DECIMALS)
    return (rounded >= 0) & (rounded < length)


def _not_under(
    hit: np.ndarray,
    grid: Grid,
    first: tuple[int, int],
    shift: float,
    before: list[tuple[LandCoverMap, Collection[int]]],
) -> np.ndarray:
    """Leaves only pixels at places where no map before has a value."""
    rows, columns = np.nonzero(hit)
    x, y = apply(grid.transform, first[1] + columns + 0.5, first[0] + rows + 0.5)
    free = np.ones(len(rows), bool)
    for other, without in before:
        if not free.any():
            break
        there_x, there_y = transform_points(grid.crs, other.grid.crs, x - shift, y)
        found = apply(~other.grid.transform, there_x, there_y)
        places = [np.where(np.isfinite(axis), np.floor(axis), -1).astype(np.int64) for axis in found]
        on = (places[0] >= 0) & (places[0] < other.grid.width) & (places[1] >= 0) & (places[1] < other.grid.height)
        if not on.any():
            continue
        left, top = places[0][on].min(), places[1][on].min()
        codes = other.read(int(top), int(left), int(places[1][on].max() - top) + 1, int(places[0][on].max() - left) + 1)
        free[on] &= np.isin(codes[places[1][on] - top, places[0][on] - left], list(without))
    left_over = np.zeros_like(hit)
    left_over[rows[free], columns[free]] = True
    return left_over


def _histogram(codes: np.ndarray) -> dict[int, int]:
    if codes.dtype == np.uint8:
        numbers = np.bincount(codes)
        return {int(code): int(numbers[code]) for code in np.flatnonzero(numbers)}
    values, numbers = np.unique(codes, return_counts=True)
    return dict(zip(values.tolist(), numbers.tolist(), strict=True))
