"""Tiny rasters for the tests of this folder."""

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine, from_origin

UTM = "EPSG:32612"


def write(path, values, transform=None, crs=UTM, **options) -> Path:
    """Writes (bands, height, width) or (height, width) as a GeoTIFF."""
    values = np.asarray(values)
    values = values[None] if values.ndim == 2 else values
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"driver": "GTiff", "compress": "deflate", **options}
    with rasterio.open(
        path,
        "w",
        count=values.shape[0],
        height=values.shape[1],
        width=values.shape[2],
        dtype=values.dtype,
        crs=crs,
        transform=transform or from_origin(300_000, 4_100_000, 10, 10),
        **options,
    ) as dataset:
        dataset.write(values)
    return path


def noise(height, width, bands=3, seed=0, low=1000, high=4000):
    """uint16 pixels that no filter drops."""
    return np.random.default_rng(seed).integers(low, high, (bands, height, width)).astype(np.uint16)


def damage(path, number=0):
    """Overwrites one stored block of a GeoTIFF with noise."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        start, size = page.dataoffsets[number], page.databytecounts[number]
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * size)


__all__ = ["UTM", "Affine", "damage", "from_origin", "noise", "write"]
