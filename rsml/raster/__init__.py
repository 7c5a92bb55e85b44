"""Rasters of any size: grids, windows, bands read piece by piece."""
