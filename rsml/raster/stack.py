"""The bands of a scene, from one file or several of the same grid, read in windows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rsml.raster.grid import crs_name, grid_of, open_raster
from rsml.raster.windows import PIECE, overview_pieces
from rsml.utils.errors import UserError


class BandStack:
    """Bands of one or several rasters, read as one.

    Args:
        files: Rasters with one grid: same size, place and coordinate system.
        bands: Which bands, counted from 1 over all files in their order. None: all but alpha.
        nodata: The value of missing pixels, for files that do not say.
        crs: Coordinate system, for files that do not say.

    Attributes:
        grid: Where the pixels lie.
        bands: The numbers of the bands that are read.
        strips: Stored in strips as wide as the scene.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
        crs: CRS | None = None,
    ) -> None:
        self.files = [str(file) for file in files]
        self._datasets = [open_raster(file) for file in self.files]
        self.grid = grid_of(self._datasets[0], crs)
        for dataset in self._datasets[1:]:
            self._check_same_grid(dataset, crs)
        every = [(dataset, band) for dataset in self._datasets for band in dataset.indexes]
        self.bands = self._choose(every, bands)
        self._reads = [every[band - 1] for band in self.bands]
        self._nodata = [
            dataset.nodatavals[band - 1] if dataset.nodatavals[band - 1] is not None else nodata
            for dataset, band in self._reads
        ]
        types = [np.dtype(dataset.dtypes[band - 1]) for dataset, band in self._reads]
        for kind, (dataset, _) in zip(types, self._reads, strict=True):
            if kind.kind not in "iuf":
                raise UserError(f"{dataset.name}: has values of type {kind}, expected whole or floating-point numbers")
        self.dtype = np.result_type(*types)
        block = self._datasets[0].block_shapes[0]
        self.strips = block[1] == self.grid.width and block[0] < self.grid.height
        self._pixel_bytes = sum(np.dtype(kind).itemsize for dataset in self._datasets for kind in dataset.dtypes)

    def __enter__(self) -> BandStack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files."""
        for dataset in self._datasets:
            dataset.close()

    def reading(self, rows: int) -> rasterio.Env:
        """An environment in which GDAL keeps the decoded pixels that reading so many rows at a time needs, no more."""
        wide = self.grid.width if self.strips else 2 * PIECE
        return rasterio.Env(GDAL_CACHEMAX=max(2**25, 2 * rows * wide * self._pixel_bytes))

    def read(
        self, row: int, column: int, height: int, width: int, shape: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads a window: values (bands, height, width) and (height, width) which pixels all bands have.

        Args:
            row: First row.
            column: First column.
            height: Rows.
            width: Columns.
            shape: Read every n-th pixel instead (of an overview, where there is one), as many as this.

        Raises:
            RasterioError: A part of a file is damaged.
        """
        window, shape = Window(column, row, width, height), shape or (height, width)
        values = np.empty((len(self._reads), *shape), self.dtype)
        valid = np.ones(shape, bool)
        masked = {}
        for place, (dataset, band) in enumerate(self._reads):
            values[place] = dataset.read(band, window=window, out_shape=shape)
            nodata = self._nodata[place]
            if nodata is not None and not math.isnan(nodata):
                valid &= values[place] != nodata
            flags = dataset.mask_flag_enums[band - 1]
            if MaskFlags.per_dataset in flags or MaskFlags.alpha in flags:
                masked[dataset.name] = dataset, band
        for dataset, band in masked.values():
            valid &= dataset.read_masks(band, window=window, out_shape=shape) != 0
        if self.dtype.kind == "f":
            valid &= np.isfinite(values).all(axis=0)
        return values, valid

    def overview(self, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Every n-th pixel of the whole scene, so that no side is longer; damaged parts count as missing."""
        shape, pieces = overview_pieces((self.grid.height, self.grid.width), longest, self.strips)
        values, valid = np.zeros((len(self._reads), *shape), self.dtype), np.zeros(shape, bool)
        for place, (rows, columns) in pieces:
            window = rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start
            with contextlib.suppress(RasterioError):
                values[(slice(None), *place)], valid[place] = self.read(*window, valid[place].shape)
        return values, valid

    def _check_same_grid(self, dataset: rasterio.DatasetReader, crs: CRS | None) -> None:
        first, grid = self.grid, grid_of(dataset, crs)
        if (grid.height, grid.width) != (first.height, first.width):
            found, expected = f"{grid.width} x {grid.height} pixels", f"{first.width} x {first.height}"
        elif grid.crs != first.crs:
            found, expected = f"coordinate system {crs_name(grid.crs)}", crs_name(first.crs)
        elif not grid.transform.almost_equals(first.transform, 1e-3 * abs(first.transform.a or first.transform.b)):
            found, expected = f"geotransform {grid.transform.to_gdal()}", f"{first.transform.to_gdal()}"
        else:
            return
        raise UserError(
            f"{dataset.name}: {found}, expected {expected} as {self.files[0]} has; the files of one scene need one "
            "grid, which gdalwarp or gdalbuildvrt -separate gives them"
        )

    def _choose(self, every: list, bands: Sequence[int] | None) -> list[int]:
        if bands is None:
            return [
                number
                for number, (dataset, band) in enumerate(every, 1)
                if dataset.colorinterp[band - 1] != ColorInterp.alpha
            ]
        if min(bands) < 1 or max(bands) > len(every):
            wanted = next(band for band in bands if not 1 <= band <= len(every))
            raise UserError(
                f"{', '.join(self.files)}: has {len(every)} band{'s' * (len(every) > 1)}, --bands asks for band "
                f"{wanted}; choose from 1 to {len(every)}"
            )
        return list(bands)
