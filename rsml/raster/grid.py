"""Where the pixels of a raster lie: its grid, and the way from one coordinate system to another."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
import rasterio.warp
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import Affine

from rsml.raster.opening import words
from rsml.utils.errors import UserError

LONGITUDE_LATITUDE = CRS.from_epsg(4326)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie.

    Args:
        crs: Coordinate system.
        transform: From (column, row) to its coordinates.
        height: Pixels.
        width: Pixels.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    def outline(self, points: int = 21) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates x, y of points all around the edge."""
        along = np.linspace(0, 1, points)
        columns = np.concatenate([along, np.ones(points), along[::-1], np.zeros(points)]) * self.width
        rows = np.concatenate([np.zeros(points), along, np.ones(points), along[::-1]]) * self.height
        return apply(self.transform, columns, rows)

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the smallest upright box around it."""
        x, y = self.outline(2)
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def part(self, row: int, column: int, height: int, width: int) -> Grid:
        """The grid of a window."""
        first, t = apply(self.transform, column, row), self.transform
        return Grid(self.crs, Affine(t.a, t.b, first[0], t.d, t.e, first[1]), height, width)


def apply(transform: Affine, columns: Any, rows: Any) -> tuple[Any, Any]:
    """Numbers or arrays of columns and rows, turned into coordinates."""
    # Affine's own operator for this has changed its name.
    t = transform
    with np.errstate(over="ignore", invalid="ignore"):  # of places that are none
        return t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f


def scaled(transform: Affine, down: float, across: float) -> Affine:
    """The way to coordinates from pixels so many times as high and wide."""
    t = transform
    return Affine(t.a * across, t.b * down, t.c, t.d * across, t.e * down, t.f)


def parse_crs(text: str) -> CRS:
    """A coordinate system by code, WKT or PROJ string, as a user types it."""
    try:
        return CRS.from_user_input(int(text) if text.isdigit() else text)
    except CRSError as error:
        raise UserError(
            f"{text}: not a coordinate system that PROJ knows ({words(error)}); give a code such as EPSG:32612"
        ) from None


def georeferenced(dataset: rasterio.DatasetReader) -> bool:
    """Whether pixels have coordinates; those of control points alone do not count.

    Raises:
        UserError: The way from pixels to coordinates has no way back.
    """
    t = dataset.transform
    if t == Affine.identity():
        return False
    if not np.isfinite(t).all() or not np.isfinite(t.determinant) or t.determinant == 0:
        raise UserError(
            f"{dataset.name}: its geotransform {t.to_gdal()} gives pixels no place of their own; give it the right "
            "one, e.g. with gdal_edit.py -a_ullr, or none with gdal_edit.py -unsetgt"
        )
    return True


def grid_of(dataset: rasterio.DatasetReader, crs: CRS | None = None) -> Grid:
    """The grid of a raster.

    Args:
        dataset: An open raster.
        crs: Its coordinate system, if it does not say one.

    Raises:
        UserError: It has no coordinate system or no position, or PROJ cannot convert its coordinates.
    """
    crs = dataset.crs or crs
    if not crs:
        raise UserError(
            f"{dataset.name}: has no coordinate system, so nothing else can be found at its place; say which one with "
            "--crs, e.g. --crs EPSG:32612"
        )
    if not georeferenced(dataset):
        has = "only ground control points" if dataset.gcps[0] else "no position"
        raise UserError(f"{dataset.name}: has {has}, expected a geotransform; make one with gdalwarp or gdal_translate")
    grid = Grid(crs, dataset.transform, dataset.height, dataset.width)
    check_crs(crs, dataset.name)
    return grid


@functools.lru_cache(maxsize=256)
def check_crs(crs: CRS, path: str) -> None:
    """Refuses a coordinate system that has no way to longitude and latitude."""
    try:
        transform_points(crs, LONGITUDE_LATITUDE, np.zeros(1), np.zeros(1))
    except UnknownPlace as error:
        raise UserError(
            f"{path}: its coordinate system ({crs_name(crs)}) is not one that PROJ can convert to longitude and "
            f"latitude ({error}); assign the right one, e.g. with gdal_edit.py -a_srs EPSG:32612"
        ) from None


class UnknownPlace(Exception):
    """Coordinates cannot be converted between two systems."""


def transform_points(source: CRS, target: CRS, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in another system; infinite where there are none."""
    if source == target:
        return x, y
    try:
        shape = np.shape(x)
        found = rasterio.warp.transform(source, target, np.ravel(x), np.ravel(y))
    except Exception as error:  # GDAL's own exceptions derive from nothing narrower
        raise UnknownPlace(words(error)) from None
    return np.reshape(found[0], shape), np.reshape(found[1], shape)


def crs_code(crs: CRS) -> str:
    """A code where the system is exactly that of the code, else its WKT."""
    code = crs.to_epsg(confidence_threshold=100)
    return f"EPSG:{code}" if code else crs.to_wkt()


def crs_name(crs: CRS) -> str:
    """The code, or the name within the WKT."""
    text = crs_code(crs)
    return text.split('"')[1] if '"' in text else text


def datum_unknown(crs: CRS) -> bool:
    """Whether the system does not say which datum it is of; it is then taken for the other raster's own."""
    return re.search(r'DATUM\["(unknown|not specified)', crs.to_wkt(), re.IGNORECASE) is not None
