"""Bands of a scene, from one raster or several of one grid, read in windows, by any number of threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rsml.raster.grid import Grid, crs_name, georeferenced, grid_of
from rsml.raster.opening import FAULTS, environment, naming_faults, open_raster, words
from rsml.raster.windows import PIECE, overview_pieces
from rsml.utils.errors import UserError


class WindowReader:
    """Bands of one or several rasters, read as one; a context that closes the files when it is left.

    Args:
        files: Rasters; several must have one grid: same size, place and coordinate system.
        bands: Which bands, counted from 1 over all files in their order. None: all but alpha.
        nodata: The value of missing pixels, for files that do not say.
        crs: Coordinate system, for files that do not say.
        missing_in: A pixel counts as missing when it has the nodata value in "any" or in "all" of the bands.

    Attributes:
        size: (height, width) in pixels.
        crs: Coordinate system, or None.
        georeferenced: Whether pixels have coordinates.
        bands: The numbers of the bands that are read.
        nodata: The value of missing pixels, or None, of each band that is read.
        dtype: Type of the values.
        strips: Stored in strips as wide as the scene.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
        crs: CRS | None = None,
        missing_in: str = "any",
    ) -> None:
        self.files = [str(file) for file in files]
        self._given_crs, self._missing_in = crs, missing_in
        self._handles: dict[int, list[rasterio.DatasetReader]] = {}
        self._turn = threading.Lock()
        self.strips = True
        with self._datasets() as datasets:
            try:
                with naming_faults(", ".join(self.files)):
                    self._describe(datasets, bands, nodata)
            except BaseException:
                self.close()
                raise
            # One strip as high as the scene is no use to read in rows.
            high, wide = datasets[0].block_shapes[0]
            strips = wide == self.size[1] and high < self.size[0]
        if not strips:
            self._handles[threading.get_ident()] = self._handles.pop(0)
        self.strips = strips

    def _describe(
        self, datasets: list[rasterio.DatasetReader], bands: Sequence[int] | None, nodata: float | None
    ) -> None:
        first = datasets[0]
        self.size = first.height, first.width
        self.crs = first.crs or self._given_crs
        self.georeferenced, self.transform = georeferenced(first), first.transform
        for dataset in datasets[1:]:
            self._check_same_grid(dataset, first)
        every = [(number, band) for number, dataset in enumerate(datasets) for band in dataset.indexes]
        colours = [datasets[number].colorinterp[band - 1] for number, band in every]
        whole = bands is None
        if bands is None:
            bands = [number for number, colour in enumerate(colours, 1) if colour != ColorInterp.alpha]
        wanted = next((band for band in bands if not 1 <= band <= len(every)), None)
        if wanted is not None:
            raise UserError(
                f"{', '.join(self.files)}: has {len(every)} band{'s' * (len(every) > 1)}, band {wanted} was asked for "
                f"(they are counted from 1); choose from 1 to {len(every)} with --bands"
            )
        self.bands = list(bands)
        chosen = [every[band - 1] for band in self.bands]
        self.palette = self._palette(datasets[chosen[0][0]]) if whole and colours == [ColorInterp.palette] else None
        tagged = [datasets[number].nodatavals[band - 1] for number, band in chosen]
        self.nodata = [nodata if value is None else value for value in tagged]
        self.dtype = np.result_type(*(datasets[number].dtypes[band - 1] for number, band in chosen))
        bits = datasets[chosen[0][0]].tags(chosen[0][1], ns="IMAGE_STRUCTURE").get("NBITS", "")
        self.bits = int(bits) if bits.isdecimal() and 0 < int(bits) < 8 * self.dtype.itemsize else None
        self._pixel_bytes = sum(np.dtype(kind).itemsize for dataset in datasets for kind in dataset.dtypes)
        # Bands of one file are read together: where they are stored pixel by pixel, one would bring all of them.
        self._reads: list[tuple[int, list[int], list[int], bool]] = []
        for number, dataset in enumerate(datasets):
            places = [place for place, (other, _) in enumerate(chosen) if other == number]
            if places:
                own = [chosen[place][1] for place in places]
                flags = dataset.mask_flag_enums[own[0] - 1]
                masked = MaskFlags.per_dataset in flags or MaskFlags.alpha in flags
                self._reads.append((number, own, places, masked))

    def __enter__(self) -> WindowReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def grid(self) -> Grid:
        """Where the pixels lie.

        Raises:
            UserError: The file says no place, or one that nothing else can be found at.
        """
        with self._datasets() as datasets, naming_faults(self.files[0]):
            return grid_of(datasets[0], self._given_crs)

    def close(self) -> None:
        """Closes the files; the next read opens them again."""
        for datasets in self._handles.values():
            for dataset in datasets:
                dataset.close()
        self._handles.clear()

    def cache_bytes(self, rows: int) -> int:
        """What GDAL should keep of decoded pixels, so that reading so many rows at a time decodes no strip anew."""
        wide = self.size[1] if self.strips else 2 * PIECE
        return max(2**25, 2 * rows * wide * self._pixel_bytes)

    def reading(self, rows: int) -> rasterio.Env:
        """An environment in which GDAL keeps as much as reading so many rows at a time needs, no more."""
        return environment(GDAL_CACHEMAX=self.cache_bytes(rows))

    def read(
        self, rows: tuple[int, int], columns: tuple[int, int], shape: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads a window: values (bands, height, width), and (height, width) which pixels are there.

        Args:
            rows: The first, and the one after the last.
            columns: The first, and the one after the last.
            shape: Read every n-th pixel instead (of an overview, where there is one), as many as this.

        Raises:
            RasterioError: A part of a file is damaged.
        """
        window = Window.from_slices(rows, columns)
        shape = shape or (rows[1] - rows[0], columns[1] - columns[0])
        values = np.empty((len(self.bands), *shape), self.dtype)
        valid = np.ones(shape, bool)
        with self._datasets() as datasets:
            try:
                for number, bands, places, masked in self._reads:
                    values[places] = datasets[number].read(bands, window=window, out_shape=(len(bands), *shape))
                    if masked:
                        valid &= datasets[number].read_masks(bands[0], window=window, out_shape=shape) != 0
            except FAULTS as error:
                raise RasterioError(words(error)) from None
        tagged = [found == nodata for found, nodata in zip(values, self.nodata, strict=True) if nodata is not None]
        if tagged and (self._missing_in == "any" or len(tagged) == len(values)):
            valid &= ~(np.any if self._missing_in == "any" else np.all)(tagged, axis=0)
        if self.dtype.kind == "f":
            valid &= np.isfinite(values).all(axis=0)
        return values, valid

    def overview(self, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Every n-th pixel of the whole scene, so that no side is longer; damaged parts count as missing."""
        shape, pieces = overview_pieces(self.size, longest, self.strips)
        values, valid = np.zeros((len(self.bands), *shape), self.dtype), np.zeros(shape, bool)
        for (down, across), (rows, columns) in pieces:
            with contextlib.suppress(RasterioError):
                smaller = down.stop - down.start, across.stop - across.start
                part = self.read((rows.start, rows.stop), (columns.start, columns.stop), smaller)
                values[:, down, across], valid[down, across] = part
        return values, valid

    @contextlib.contextmanager
    def _datasets(self) -> Iterator[list[rasterio.DatasetReader]]:
        """Open handles for this thread alone.

        What GDAL keeps of decoded pixels belongs to a handle. Strips are needed by many blocks, so they are read by
        one handle in turns; tiles by one handle a thread.
        """
        with self._turn if self.strips else contextlib.nullcontext():
            reader = 0 if self.strips else threading.get_ident()
            if reader not in self._handles:
                opened: list[rasterio.DatasetReader] = []
                try:
                    for file in self.files:
                        opened.append(open_raster(file))
                except BaseException:
                    for dataset in opened:
                        dataset.close()
                    raise
                self._handles[reader] = opened
            yield self._handles[reader]

    def _check_same_grid(self, dataset: rasterio.DatasetReader, first: rasterio.DatasetReader) -> None:
        here, there = first.transform, dataset.transform
        crs = dataset.crs or self._given_crs
        if (dataset.height, dataset.width) != self.size:
            found, expected = f"{dataset.width} x {dataset.height} pixels", f"{first.width} x {first.height}"
        elif crs != self.crs:
            found = f"coordinate system {crs_name(crs) if crs else 'none'}"
            expected = crs_name(self.crs) if self.crs else "none"
        elif not there.almost_equals(here, 1e-3 * abs(here.a or here.b)):
            found, expected = f"geotransform {there.to_gdal()}", f"{here.to_gdal()}"
        else:
            return
        raise UserError(
            f"{dataset.name}: {found}, expected {expected} as {self.files[0]} has; the files of one scene need one "
            "grid, which gdalwarp or gdalbuildvrt -separate gives them"
        )

    @staticmethod
    def _palette(dataset: rasterio.DatasetReader) -> np.ndarray:
        """(entries, 3) colours that the values of the only band are numbers of."""
        table = np.zeros((2 ** min(16, 8 * np.dtype(dataset.dtypes[0]).itemsize), 3), np.uint8)
        for entry, colour in dataset.colormap(1).items():
            table[entry] = colour[:3]
        return table
