"""A raster of any size, read piece by piece as the training images were read: bands, scaling, missing pixels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rasterio.transform import Affine

from rsml.data.decoders import MAX_PIXELS, Raster
from rsml.data.images import check_choices, own_range, to_uint8
from rsml.raster.grid import georeferenced
from rsml.raster.opening import open_raster
from rsml.raster.reader import WindowReader
from rsml.utils.errors import UserError

logger = logging.getLogger(__name__)

SMALLEST_SCENE = 1024 * 1024
WINDOWS_OF_A_SCENE = 16
_OVERVIEW = 1024


class Scene:
    """A raster whose windows are read as uint8 images, from any number of threads.

    Values deeper than 8 bits are scaled by one range for the whole scene: `value_range`, or what the rules of
    `rsml.data.images.decode` say of a smaller version of it.

    Args:
        path: Any raster that `open_raster` opens.
        bands: Counted from 1. None: the colours of the file, which must be one (grey, or a palette) or three.
        value_range: Values that become 0 and 255.
        nodata: The value of missing pixels, where the file does not say.

    Attributes:
        reader: Reads the values.
        size: (height, width) in pixels.
        channels: Of the images that `read` gives.
        crs: Coordinate system, or None.
        transform: From (column, row) to coordinates. Without georeference (column, -row), where a GIS shows pictures.
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
        self.reader = reader = WindowReader([path], bands, nodata, missing_in="all")
        if bands is None and len(reader.bands) not in (1, 3):
            reader.close()
            has = f"{path}: has {len(reader.bands)} band{'s' * (len(reader.bands) > 1)}"
            raise UserError(f"{has}, the model needs red, green and blue; choose them with --bands, e.g. --bands 3,2,1")
        self.size, self.crs, self.bands, self.georeferenced = (
            reader.size,
            reader.crs,
            reader.bands,
            reader.georeferenced,
        )
        self.transform = reader.transform if reader.georeferenced else Affine.scale(1, -1)
        self.channels = 3 if bands is None else len(reader.bands)
        self.nodata = reader.nodata[0]
        self.value_range = value_range
        if value_range is None and reader.dtype != np.uint8 and reader.palette is None:
            self.value_range = self._own_range()
        reader.close()

    def _own_range(self) -> tuple[float, float] | None:
        values, valid = self.reader.overview(_OVERVIEW)
        if not valid.any():
            logger.warning(
                "%s: holds no pixel that is not missing (nodata %s, NaN or infinite)", self.path, self.nodata
            )
            return None
        present = values[:, valid]
        low, high = float(present.min()), float(present.max())
        if not np.isfinite(high - low):
            raise UserError(
                f"{self.path}: values from {low:g} to {high:g} are too far apart; give --value-range LOW,HIGH"
            )
        if low == high and not 0 <= low <= 255:
            raise UserError(
                f"{self.path}: every pixel is {low:g}, so there is nothing to scale by; choose other --bands, or give "
                "--value-range LOW,HIGH"
            )
        values = np.moveaxis(values, 0, -1)
        missing = ~valid[..., None] | (values == self.nodata if self.nodata is not None else False)
        missing = np.broadcast_to(missing, values.shape)
        return own_range(values, missing, Raster(values, bits=self.reader.bits), self.path)

    def close(self) -> None:
        """Closes the file; the next read opens it again."""
        self.reader.close()

    def read(
        self, rows: tuple[int, int], columns: tuple[int, int], shape: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reads (height, width, channels) uint8 between two rows and columns, and (height, width) what is missing.

        With a `shape` every n-th pixel is read, as many as that.

        Raises:
            RasterioError: A part of the file is damaged.
        """
        values, valid = self.reader.read(rows, columns, shape)
        return self._image(values, valid), ~valid

    def overview(self, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """The whole scene as an image of at most `longest` pixels a side, and its missing or damaged pixels."""
        values, valid = self.reader.overview(longest)
        return self._image(values, valid), ~valid

    def warn_if_constant(self) -> None:
        """Says so when there is nothing to be seen in the scene."""
        image, missing = self.overview(_OVERVIEW)
        present = image[~missing]
        if len(present) and (present == present[0]).all():
            logger.warning(
                "%s: every pixel is %s of 255; see --bands and --value-range", self.path, present[0].tolist()
            )

    def _image(self, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        if self.reader.palette is not None:
            return self.reader.palette[values[0]]
        if values.dtype.kind == "f":
            values[:, ~valid] = self.value_range[0] if self.value_range else 0  # what becomes 0
        values = np.moveaxis(values, 0, -1)
        raster = Raster(values, bits=self.reader.bits, nodata=self.nodata)
        image = to_uint8(values, raster, self.value_range, self.path)
        return np.repeat(image, 3, axis=2) if image.shape[2] < self.channels else image


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
