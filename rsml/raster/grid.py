"""Rasters on disk: finding and opening them, their grids and coordinate systems, and their faults in a line."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.warp
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.transform import Affine

from rsml.data.find_images import find_images
from rsml.utils.errors import UserError

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".png", ".jpg", ".jpeg", ".asc", ".bil", ".dat", ".nc", ".hdf")
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
    return t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f


def find_rasters(named: Iterable[str]) -> list[str]:
    """Rasters by path, folder (those below it), glob, `@list.txt` or `-`."""
    return list(find_images(named, SUFFIXES))


def open_raster(path: str | Path) -> rasterio.DatasetReader:
    """Opens any raster that GDAL reads.

    Raises:
        UserError: It is missing, no raster, or holds several.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path)
    except RasterioError as error:
        if not str(path).startswith(("/vsi", "http")) and not Path(path).exists():
            raise UserError(f"{path}: no such file; give a raster that exists") from None
        raise UserError(f"{path}: not a raster that GDAL reads ({words(error)}); give a GeoTIFF or the like") from None
    if dataset.count == 0:
        inside = dataset.subdatasets
        dataset.close()
        found = f"{len(inside)} data sets, such as {inside[0]}; name one of them" if inside else "no bands"
        raise UserError(f"{path}: expected a raster with bands, found {found}")
    return dataset


def parse_crs(text: str) -> CRS:
    """A coordinate system by code, WKT or PROJ string, as a user types it."""
    try:
        return CRS.from_user_input(int(text) if text.isdigit() else text)
    except CRSError as error:
        raise UserError(
            f"{text}: not a coordinate system that PROJ knows ({words(error)}); give a code such as EPSG:32612"
        ) from None


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
    if dataset.transform == Affine.identity():
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


def words(error: BaseException) -> str:
    """What an exception says, in one short line."""
    text = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."
