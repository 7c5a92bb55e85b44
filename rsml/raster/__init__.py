"""Rasters of any size: opened by one guarded door, their grids, windows, and bands read piece by piece."""

import importlib.util

from rsml.utils.errors import UserError

if importlib.util.find_spec("rasterio") is None:
    raise UserError("rasters need the package rasterio, which is not installed; run: pip install 'rsml[raster]'")
