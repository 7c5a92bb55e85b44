"""From labels back to the map: a classifier slides over rasters of any size, and its scores become a map."""

import rsml.raster  # noqa: F401  (names the extra to install where rasterio is missing)
