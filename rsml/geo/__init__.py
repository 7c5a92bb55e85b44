"""Everything that knows a coordinate system: cutting scenes, land cover under tiles, maps of scenes."""

import rsml.raster  # noqa: F401  (names the extra to install where rasterio is missing)
