"""A raster of any size, read piece by piece as the training images were read: bands, scaling, missing pixels."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from rsml.data.decoders import MAX_PIXELS, Raster
from rsml.data.images import check_choices, own_range, to_uint8
from rsml.raster.grid import open_raster
from rsml.raster.windows import PIECE, overview_pieces
from rsml.utils.errors import UserError

SMALLEST_SCENE = 1024 * 1024
WINDOWS_OF_A_SCENE = 16


class Scene:
    """A raster whose windows are read as uint8 images, from any number of threads.

    Values deeper than 8 bits are scaled by one range for the whole scene: `value_range`, or what the rules of
    `rsml.data.images.decode` say of a smaller version of it.

    Args:
        path: Any raster that GDAL opens.
        bands: Counted from 1. None: the colours of the file, which must be one (grey, or a palette) or three.
        value_range: Values that become 0 and 255.
        nodata: The value of missing pixels, where the file does not say.

    Attributes:
        size: (height, width) in pixels.
        channels: Of the images that `read` gives.
        crs: Coordinate system, or None.
        transform: From (column, row) to coordinates. Without georeference (column, -row), where a GIS shows pictures.
        strips: Stored in strips as wide as the scene.
    """

    def __init__(
        self,
        path: str | Path,
        bands: Sequence[int] | None = None,
        value_range: tuple[float, float] | None = None,
        nodata: float | None = None,
    ) -> None:
        check_choices(bands, value_range)
        self.path = str(path)
        self._handles: dict[int, rasterio.DatasetReader] = {}
        self._turn = threading.Lock()
        self.strips = True
        with self._dataset() as dataset:
            self.size = dataset.height, dataset.width
            self.crs = dataset.crs
            self.georeferenced = georeferenced(dataset)
            self.transform = dataset.transform if self.georeferenced else Affine.scale(1, -1)
            self.bands = _choose(dataset, bands)
            self.channels = 3 if bands is None else len(self.bands)
            self._palette = _palette(dataset) if bands is None and len(self.bands) == 1 else None
            first = self.bands[0]
            self._dtype = np.result_type(*(dataset.dtypes[band - 1] for band in self.bands))
            if self._dtype.kind not in "iuf":
                raise UserError(f"{path}: has values of type {self._dtype}, expected whole or floating-point numbers")
            self.nodata = dataset.nodatavals[first - 1] if nodata is None else nodata
            flags = dataset.mask_flag_enums[first - 1]
            self._has_mask = MaskFlags.per_dataset in flags or MaskFlags.alpha in flags
            bits = dataset.tags(first, ns="IMAGE_STRUCTURE").get("NBITS")
            self._bits = int(bits) if bits else None
            self._pixel_bytes = sum(np.dtype(dtype).itemsize for dtype in dataset.dtypes)
            # One strip as high as the scene is no use to read in rows.
            high, wide = dataset.block_shapes[0]
            strips = wide == dataset.width and high < dataset.height
        self.close()
        self.strips = strips
        self.value_range = value_range
        if value_range is None and self._dtype != np.uint8 and self._palette is None:
            values, missing = self._smaller(1024)
            missing = missing[..., None] | ~np.isfinite(values)
            if self.nodata is not None:
                missing |= values == self.nodata
            if not missing.all():
                self.value_range = own_range(values, missing, Raster(values, bits=self._bits), self.path)

    def cache_bytes(self, window_height: int) -> int:
        """What GDAL should keep of decoded pixels, so that no strip is decoded anew for every block in it."""
        wide = self.size[1] if self.strips else 2 * PIECE
        return max(2**25, 2 * window_height * wide * self._pixel_bytes)

    def close(self) -> None:
        """Closes the file; the next read opens it again."""
        for dataset in self._handles.values():
            dataset.close()
        self._handles.clear()

    def read(self, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Reads (height, width, channels) uint8 between two rows and columns, and (height, width) what is missing.

        Raises:
            RasterioError: A part of the file is damaged.
        """
        values, missing = self._values(Window.from_slices(rows, columns))
        return self._image(values), missing

    def overview(self, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """The whole scene as an image of at most `longest` pixels a side, and its missing or damaged pixels."""
        values, missing = self._smaller(longest)
        return self._image(values), missing

    @contextlib.contextmanager
    def _dataset(self) -> Iterator[rasterio.DatasetReader]:
        """An open handle for this thread alone.

        What GDAL keeps of decoded pixels belongs to a handle. Strips are needed by many blocks, so they are read by
        one handle in turns; tiles by one handle a thread.
        """
        with self._turn if self.strips else contextlib.nullcontext():
            reader = 0 if self.strips else threading.get_ident()
            if reader not in self._handles:
                self._handles[reader] = open_raster(self.path)
            yield self._handles[reader]

    def _values(self, window: Window, shape: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        shape = shape or (int(window.height), int(window.width))
        with self._dataset() as dataset:
            values = dataset.read(self.bands, window=window, out_shape=(len(self.bands), *shape))
            mask = dataset.read_masks(self.bands[0], window=window, out_shape=shape) if self._has_mask else None
        missing = np.zeros(shape, bool) if mask is None else mask == 0
        if self.nodata is not None:
            missing |= (values == self.nodata).all(axis=0)
        if values.dtype.kind == "f":
            missing |= ~np.isfinite(values).any(axis=0)
        return np.moveaxis(values, 0, -1), missing

    def _image(self, values: np.ndarray) -> np.ndarray:
        if self._palette is not None:
            return self._palette[values[..., 0]]
        image = to_uint8(values, Raster(values, bits=self._bits, nodata=self.nodata), self.value_range, self.path)
        return np.repeat(image, 3, axis=2) if image.shape[2] < self.channels else image

    def _smaller(self, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Every n-th pixel of the scene (of an overview, where the file has one), piece by piece."""
        shape, pieces = overview_pieces(self.size, longest, self.strips)
        values, missing = np.zeros((*shape, len(self.bands)), self._dtype), np.ones(shape, bool)
        for place, (rows, columns) in pieces:
            window = Window.from_slices((rows.start, rows.stop), (columns.start, columns.stop))
            # What is damaged stays missing here; the windows in it are named when their turn comes.
            with contextlib.suppress(RasterioError):
                values[place], missing[place] = self._values(window, missing[place].shape)
        return values, missing


def georeferenced(dataset: rasterio.DatasetReader) -> bool:
    """Whether pixels have coordinates; those of control points alone do not count."""
    return dataset.transform != Affine.identity()


def is_scene(path: str, window: tuple[int, int]) -> bool:
    """Whether a file is a raster to be mapped, not one image to be labelled.

    It is when it has a georeference and at least a million pixels and those of 16 windows, or when it is larger than
    what is read as one image.
    """
    try:
        with open_raster(path) as dataset:
            pixels = dataset.height * dataset.width
            enough = max(SMALLEST_SCENE, WINDOWS_OF_A_SCENE * window[0] * window[1])
            return pixels > MAX_PIXELS or (georeferenced(dataset) and pixels >= enough)
    except UserError:
        return False


def _choose(dataset: rasterio.DatasetReader, bands: Sequence[int] | None) -> list[int]:
    count = dataset.count
    has = f"{dataset.name}: has {count} band{'s' * (count > 1)}"
    if bands is not None:
        if max(bands) > count:
            raise UserError(
                f"{has}, the model needs bands {list(bands)} (counted from 1); choose others with --bands, or give a "
                "raster with all bands (gdalbuildvrt -separate makes one of single files)"
            )
        return list(bands)
    colours = [band for band in dataset.indexes if dataset.colorinterp[band - 1] != ColorInterp.alpha]
    if len(colours) not in (1, 3):
        raise UserError(f"{has}, the model needs red, green and blue; choose them with --bands, e.g. --bands 3,2,1")
    return colours


def _palette(dataset: rasterio.DatasetReader) -> np.ndarray | None:
    """(entries, 3) colours, where the only band holds numbers of colours."""
    if dataset.colorinterp[0] != ColorInterp.palette:
        return None
    table = np.zeros((2 ** min(16, 8 * np.dtype(dataset.dtypes[0]).itemsize), 3), np.uint8)
    for entry, colour in dataset.colormap(1).items():
        table[entry] = colour[:3]
    return table
