"""Rasters of any size: opened by one guarded door, their grids, windows, and bands read piece by piece."""

from rsml.utils.packages import require

require("rasterio")
